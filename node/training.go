package node

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/dict"

	"github.com/healthpost/healthpost/record"
)

// TrainRequest says what a dictionary is trained on.
type TrainRequest struct {
	Files   []string // FHIR bundles or NDJSON, as Import takes them; their order matters
	Without []string // resource types to leave out
}

// Trained is a dictionary, and what it does for people it was not trained on: every
// fifth is held out.
type Trained struct {
	Name      string   `json:"name"` // SHA-256, hexadecimal
	Bytes     []byte   `json:"-"`
	Size      int      `json:"size"`
	People    int      `json:"people"`    // trained on
	HeldOut   int      `json:"heldOut"`   // people measured on
	Visits    int      `json:"visits"`    // of those, measured
	Resources int      `json:"resources"` // median of a measured visit
	JSON      int      `json:"json"`      // median bytes of a measured visit, as it came
	BuiltIn   int      `json:"builtIn"`   // median bytes of one sealed without the dictionary
	Sealed    int      `json:"sealed"`    // and with it
	Mean      int      `json:"mean"`      // mean bytes of one sealed with it
	Unread    []string `json:"unread"`    // files that are no bundles
}

const (
	holdOutEvery     = 5
	trainingBytesMax = 256 << 20 // of bodies
	trainedBodyMax   = 64 << 10  // longer ones are packed without a dictionary
)

// trainingVisit is one save of a person.
type trainingVisit struct {
	body      []byte
	json      int
	resources int
	encounter bool
}

// TrainDictionary makes a dictionary for the ledger out of files, which need not be
// of this box. It holds only what at least dict.PeopleMin people's records share.
func TrainDictionary(q TrainRequest) (Trained, error) {
	out := Trained{Unread: []string{}}
	var people [][]trainingVisit
	total := 0
	for _, path := range q.Files {
		more, err := trainingPeople(path, q.Without)
		if err != nil {
			out.Unread = append(out.Unread, path)
			continue
		}
		for _, visits := range more {
			for _, v := range visits {
				total += len(v.body)
			}
		}
		if total > trainingBytesMax {
			return out, fmt.Errorf("training a dictionary: more than %d MB of records: give fewer files", trainingBytesMax>>20)
		}
		people = append(people, more...)
	}
	var texts [][][]byte
	var heldOut []trainingVisit
	for i, visits := range people {
		if i%holdOutEvery == holdOutEvery-1 {
			heldOut = append(heldOut, visits...)
			out.HeldOut++
			continue
		}
		out.People++
		texts = append(texts, trainingTexts(visits))
	}
	b, err := dict.Train(texts, dict.TrainOptions{PeopleMin: dict.PeopleMin})
	if err != nil {
		return out, err
	}
	d, err := record.DecodeDictionary(b)
	if err != nil {
		return out, err
	}
	out.Bytes, out.Size, out.Name = b, len(b), fmt.Sprintf("%x", d.Name)
	return out, out.measure(d, heldOut)
}

func trainingTexts(visits []trainingVisit) [][]byte {
	var texts [][]byte
	for _, v := range visits {
		if len(v.body) <= trainedBodyMax {
			text, _ := dict.SetUUIDsAside(v.body)
			texts = append(texts, text)
		}
	}
	return texts
}

// trainingPeople are the saves that importing a file would make, by person.
func trainingPeople(path string, without []string) ([][]trainingVisit, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the file: %w", err)
	}
	defer f.Close()
	b, err := readImport(path, f)
	if err != nil {
		return nil, err
	}
	plan := fhir.Plan(b, func(string) (string, bool) { return "", false })
	people := make([][]trainingVisit, len(plan.Patients))
	for _, s := range plan.Saves {
		if s.Patient == fhir.NoPatient {
			continue
		}
		v, ok, err := newTrainingVisit(s, without)
		if err != nil {
			return nil, err
		}
		if ok {
			people[s.Patient] = append(people[s.Patient], v)
		}
	}
	return slices.DeleteFunc(people, func(v []trainingVisit) bool { return len(v) == 0 }), nil
}

func newTrainingVisit(s fhir.Save, without []string) (trainingVisit, bool, error) {
	v := trainingVisit{encounter: s.Encounter != ""}
	var items []chart.Item
	for _, r := range s.Resources {
		if slices.Contains(without, r.Type) {
			continue
		}
		v.json += len(r.JSON)
		r.JSON = fhir.Compact(r.JSON)
		items = append(items, chart.PutItem(r))
	}
	if len(items) == 0 {
		return v, false, nil
	}
	v.resources = len(items)
	var err error
	if v.body, err = chart.EncodeBody(chart.Body{Items: items}); errors.Is(err, chart.ErrBody) {
		return v, false, nil // import cuts it in two
	}
	return v, err == nil, err
}

// measure packs visits that were held out, and checks that they come back.
func (t *Trained) measure(d record.Dictionary, heldOut []trainingVisit) error {
	var with, without seal.Dictionaries
	if err := with.Add(d); err != nil {
		return err
	}
	var sealed, builtIn, json, resources []int
	for _, v := range heldOut {
		if !v.encounter {
			continue
		}
		p, err := with.Pack(v.body)
		if err != nil {
			return err
		}
		back, err := with.Unpack(p)
		if err != nil || string(back) != string(v.body) {
			return errors.Join(fmt.Errorf("measuring a dictionary: a body of %d bytes does not come back", len(v.body)), err)
		}
		q, err := without.Pack(v.body)
		if err != nil {
			return err
		}
		sealed, builtIn = append(sealed, p.SealedLen(firstGen)), append(builtIn, q.SealedLen(firstGen))
		json, resources = append(json, v.json), append(resources, v.resources)
	}
	t.Visits = len(sealed)
	if t.Visits == 0 {
		return nil
	}
	for _, n := range sealed {
		t.Mean += n
	}
	t.Mean /= t.Visits
	t.Sealed, t.BuiltIn, t.JSON, t.Resources = median(sealed), median(builtIn), median(json), median(resources)
	return nil
}

func median(list []int) int {
	slices.Sort(list)
	return list[len(list)/2]
}
