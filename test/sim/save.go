package sim

import (
	"fmt"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

// patient is one compartment. Every box can read it.
type patient struct {
	id   record.CompartmentID
	key  seal.Key
	uuid string
	seen bool // somebody registered them
}

// authored is a record that an honest box made, with what it says.
type authored struct {
	r    record.Record
	by   *box
	body chart.Body
	says bool // body is set
}

// save is what a box told its staff is kept.
type save struct {
	r      record.Record
	by     *box
	number int
	lost   bool // it was on one card only, and that card was put back in time
}

func (w *world) newPatient() (*patient, error) {
	key, err := seal.NewKey(randomness{w.rng})
	return &patient{id: record.CompartmentID(w.bytes(16)), key: key, uuid: w.uuid()}, err
}

func (w *world) uuid() string {
	b := w.bytes(16)
	return fmt.Sprintf("%x-%x-4%x-8%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])[:36]
}

// saveSome has a box save a visit or amend who a patient is.
func (w *world) saveSome(b *box) error {
	if b.st == nil || w.plan.SavesMax > 0 && w.res.Saves >= w.plan.SavesMax {
		return nil
	}
	if w.members != nil && w.chance(w.plan.UnknownIn) {
		return w.saveUnknown(b)
	}
	p := w.patientOf(b)
	if _, gone := b.st.ErasedCompartment(p.id); gone {
		return nil
	}
	item, err := w.item(b, p)
	if err != nil {
		return b.failed("reading a chart", err)
	}
	kind, lane := record.KindClinical, record.Lane(w.rng.IntN(record.LaneCount))
	if item.Op == chart.OpPut && len(item.Base) > 0 {
		kind, lane = record.KindRegistration, record.LaneClinical
	}
	plan := []chart.Body{{Reason: "", Items: []chart.Item{item}}}
	if w.o.Hooks.AckEarly && b.role == record.RoleClinic {
		return w.saveLater(b, p, kind, lane, plan)
	}
	return w.save(b, p, kind, lane, plan)
}

// item is one new observation, or the patient's data anew in place of all heads
// that this box knows.
func (w *world) item(b *box, p *patient) (chart.Item, error) {
	if p.seen && w.rng.IntN(2) == 0 {
		text := fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","code":{"text":"weight"},"valueString":"%x"}`, w.uuid(), w.bytes(1+w.rng.IntN(200)))
		r, err := fhir.ParseResource([]byte(text))
		return chart.PutItem(r), err
	}
	p.seen = true
	text := fmt.Sprintf(`{"resourceType":"Patient","id":%q,"name":[{"text":"%x"}]}`, p.uuid, w.bytes(8))
	r, err := fhir.ParseResource([]byte(text))
	if err != nil {
		return chart.Item{}, err
	}
	c, err := w.fold(b, p)
	if err != nil {
		return chart.Item{}, err
	}
	var base []chart.Ref
	for _, l := range c.Lines {
		if l.Type == "Patient" {
			base = l.Refs()
		}
	}
	return chart.PutItem(r, base...), nil
}

// save writes a record. It is acknowledged when Append returned.
func (w *world) save(b *box, p *patient, kind record.Kind, lane record.Lane, bodies []chart.Body) error {
	drafts := []store.Draft{}
	for _, body := range bodies {
		plain, err := chart.EncodeBody(body)
		if err != nil {
			return err
		}
		packed, err := seal.Pack(plain)
		if err != nil {
			return err
		}
		drafts = append(drafts, store.Draft{Lane: lane, Kind: kind, Compartment: p.id, Seal: func(pos record.Position) ([]byte, error) {
			return packed.Seal(randomness{w.rng}, p.key, 1, pos, kind, p.id)
		}})
	}
	return w.append(b, drafts, bodies)
}

// saveLater is what AckEarly breaks: staff are told before the write.
func (w *world) saveLater(b *box, p *patient, kind record.Kind, lane record.Lane, bodies []chart.Body) error {
	starts, told := b.starts, &save{by: b, number: len(w.saves)}
	w.saves = append(w.saves, told)
	w.after(1_000, func() error {
		if b.st == nil || b.starts != starts {
			return nil
		}
		n := len(w.saves)
		if err := w.save(b, p, kind, lane, bodies); err != nil || len(w.saves) == n {
			return err
		}
		told.r = w.saves[n].r
		w.saves = w.saves[:n]
		return nil
	})
	return nil
}

// open gives the records of a patient that a box holds, opened.
func (w *world) open(b *box, p *patient) ([]chart.Opened, error) {
	recs, err := b.st.Compartment(p.id)
	if err != nil {
		return nil, err
	}
	out := make([]chart.Opened, 0, len(recs))
	for _, x := range recs {
		if !isChart(x.Record.Core.Kind) {
			continue
		}
		if x.Record.Body == nil && w.erasedAt(&x.Record) > 0 {
			continue
		}
		a := w.authored[x.Record.RID()]
		if a == nil || string(a.r.Body) != string(x.Record.Body) {
			return nil, w.violated(GarbageInert, "%s holds record %s of nobody", b, x.Record.RID().Short())
		}
		if !a.says {
			plain, err := seal.Open(func(uint64) (seal.Key, bool) { return p.key, true }, x.Record.Position(), x.Record.Core.Kind, p.id, x.Record.Body)
			if err != nil {
				return nil, err
			}
			if a.body, err = chart.DecodeBody(plain); err != nil {
				return nil, err
			}
			a.says = true
		}
		out = append(out, chart.Opened{Record: x.Record, RID: x.Record.RID(), Seq: x.Seq, Ordered: x.Ordered, Body: a.body})
	}
	return out, nil
}

func (w *world) fold(b *box, p *patient) (chart.Chart, error) {
	opened, err := w.open(b, p)
	return chart.Fold(opened), err
}
