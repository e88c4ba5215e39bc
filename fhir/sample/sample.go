package sample

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/healthpost/healthpost/fhir"
)

// Until is the day by which all visits have happened. It is fixed so that a seed gives the same bytes for ever.
var Until = time.Date(2026, time.March, 31, 0, 0, 0, 0, time.UTC)

// Patient is one made-up person with their visits, oldest first.
type Patient struct {
	Registration fhir.Registration
	Visits       []fhir.Visit
	Staff        []string // who did each visit

	random source
}

// source is a stream of bytes for resource ids, the same on every platform.
type source struct{ seed, stream uint64 }

// reader starts the stream anew. It never fails.
func (s source) reader() *byteReader {
	return &byteReader{rng: rand.New(rand.NewPCG(s.seed, s.stream))}
}

type byteReader struct{ rng *rand.Rand }

func (r *byteReader) Read(p []byte) (int, error) {
	var word [8]byte
	for i := range p {
		if i%8 == 0 {
			binary.LittleEndian.PutUint64(word[:], r.rng.Uint64())
		}
		p[i] = word[i%8]
	}
	return len(p), nil
}

// Patients makes patients 0 to n-1 of a seed.
func Patients(seed uint64, n int) []Patient {
	out := make([]Patient, 0, max(n, 0))
	for i := range n {
		out = append(out, One(seed, i))
	}
	return out
}

// One makes patient i of a seed.
func One(seed uint64, i int) Patient {
	g := generator{rand.New(rand.NewPCG(seed, 2*uint64(i)))}
	region := regions[g.IntN(len(regions))]
	born := g.birth()
	p := Patient{Registration: g.registration(region, born, i), random: source{seed, 2*uint64(i) + 1}}
	for n := 1 + g.IntN(5); n > 0; n-- {
		p.Visits = append(p.Visits, fhir.Visit{})
	}
	g.visits(&p, born)
	return p
}

type generator struct{ *rand.Rand }

func (g generator) pick(list []string) string { return list[g.IntN(len(list))] }

// chance is true in percent of 100 draws.
func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

// birth is a day up to 80 years before Until; half are children under 5.
func (g generator) birth() time.Time {
	days := 30 + g.IntN(5*365)
	if g.chance(50) {
		days = 5*365 + g.IntN(75*365)
	}
	return Until.AddDate(0, 0, -days)
}

func (g generator) registration(p people, born time.Time, i int) fhir.Registration {
	r := fhir.Registration{Sex: "female", Family: g.pick(p.family), Village: g.pick(p.villages), BirthDate: born.Format(time.DateOnly)}
	given := p.female
	if g.chance(48) {
		r.Sex, given = "male", p.male
	}
	r.Given = g.pick(given)
	if g.chance(35) {
		if second := g.pick(given); second != r.Given {
			r.Given += " " + second
		}
	}
	if g.chance(30) {
		r.BirthDate, r.BirthEstimated = r.BirthDate[:4], true
	}
	r.Mother = g.pick(p.female) + " " + g.pick(p.family)
	if g.chance(55) {
		r.Phone = fmt.Sprintf("07%08d", g.IntN(100_000_000))
	}
	if g.chance(70) {
		r.Card = fmt.Sprintf("HP-%05d", i+1)
	}
	return r
}

// visits fills in the visits of p, spread over the two years before Until and never before birth.
func (g generator) visits(p *Patient, born time.Time) {
	span := min(int(Until.Sub(born)/(24*time.Hour))-7, 730)
	day := Until.AddDate(0, 0, -span)
	step := max(span/(len(p.Visits)+1), 1)
	for i := range p.Visits {
		day = day.AddDate(0, 0, 1+g.IntN(step))
		at := day.Add(time.Duration(8*60+g.IntN(9*60)) * time.Minute)
		age := int(at.Sub(born)/(24*time.Hour)) * 12 / 365
		p.Visits[i] = g.visit(at, age)
		p.Staff = append(p.Staff, g.pick(staff))
		if i == 0 && g.chance(12) {
			p.Visits[i].Allergy = g.pick(allergies)
		}
	}
}

var staff = []string{"Sister Nakirya", "Nurse Abdallah", "Midwife Temwani", "Officer Oduya"}

// Resources are the saves of p: the registration first, then one save for each visit. Every call gives the same bytes.
func (p Patient) Resources() ([][]fhir.Resource, error) { return p.resources("") }

func (p Patient) resources(prefix string) ([][]fhir.Resource, error) {
	random := p.random.reader()
	first, err := p.Registration.Resources(random)
	if err != nil {
		return nil, fmt.Errorf("making sample registration: %w", err)
	}
	out := [][]fhir.Resource{first}
	for i, v := range p.Visits {
		resources, err := v.Resources(random, prefix+first[0].ID, p.Staff[i])
		if err != nil {
			return nil, fmt.Errorf("making sample visit %d: %w", i, err)
		}
		out = append(out, resources)
	}
	return out, nil
}

// Bundle is patient i of a seed as a transaction Bundle whose resources refer to one another by urn:uuid.
func Bundle(seed uint64, i int) ([]byte, error) {
	saves, err := One(seed, i).resources("urn:uuid:")
	if err != nil {
		return nil, err
	}
	out := []byte(`{"resourceType":"Bundle","type":"transaction","entry":[`)
	for s, save := range saves {
		for j, r := range save {
			if s+j > 0 {
				out = append(out, ',')
			}
			out = fmt.Appendf(out, `{"fullUrl":%q,"resource":%s,"request":{"method":"POST","url":%q}}`, r.FullURL, r.JSON, r.Type)
		}
	}
	return append(out, "]}"...), nil
}
