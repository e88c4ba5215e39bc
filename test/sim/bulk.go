package sim

import (
	"context"
	"fmt"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

// In the scenario Bulk clinics take in what they had before: hundreds of records
// in one transaction, again and again, between all faults of the scenario Region.

// bulkPlan makes a plan of large imports over quick links.
func (w *world) bulkPlan() {
	p := &w.plan
	pick := func(list ...int64) int64 { return list[w.rng.IntN(len(list))] }
	p.Hubs = int(pick(3, 3, 5))
	p.Clinics, p.Fields, p.Patients = 2+w.rng.IntN(2), 0, 20
	p.SafetyMillis, p.SaveMillis, p.VisitMillis = 60_000, 20_000, pick(4_000, 10_000)
	p.ImportMillis, p.ImportMax = pick(2_000, 5_000), int(pick(200, 500, 1_000))
	p.BatchMax, p.BatchBytes, p.ApplyMillis = 512, 256<<10, pick(50, 500)
	p.Latency, p.BytesPerSec, p.Window = pick(1, 40, 300), pick(250_000, 1_000_000), 64<<10
	p.CrashMillis, p.RestoreMillis, p.JunkIn = pick(0, 15_000, 30_000), pick(0, 0, 20_000), 0
	p.Sampled = true
}

// importSome has a clinic take in many records in one transaction.
func (w *world) importSome() error {
	b := w.clinics[w.rng.IntN(len(w.clinics))]
	if b.st == nil || w.plan.SavesMax > 0 && w.res.Saves >= w.plan.SavesMax {
		return nil
	}
	n := 1 + w.rng.IntN(w.plan.ImportMax)
	drafts, bodies, seen := make([]store.Draft, 0, n), make([]chart.Body, 0, n), map[*patient]bool{}
	for range n {
		p := w.patientOf(b)
		body, err := w.imported(p, seen)
		if err != nil {
			return err
		}
		plain, err := chart.EncodeBody(body)
		if err != nil {
			return err
		}
		packed, err := seal.Pack(plain)
		if err != nil {
			return err
		}
		drafts = append(drafts, store.Draft{Lane: record.LaneBulk, Kind: record.KindClinical, Compartment: p.id, Seal: func(pos record.Position) ([]byte, error) {
			return packed.Seal(randomness{w.rng}, p.key, 1, pos, record.KindClinical, p.id)
		}})
		bodies = append(bodies, body)
	}
	return w.append(b, drafts, bodies)
}

// imported is a short observation, the first one of an import with a new version
// of the patient that knows of no other.
func (w *world) imported(p *patient, seen map[*patient]bool) (chart.Body, error) {
	text := fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","code":{"text":"weight"},"valueString":"%x"}`, w.uuid(), w.bytes(1+w.rng.IntN(24)))
	r, err := fhir.ParseResource([]byte(text))
	if err != nil {
		return chart.Body{}, err
	}
	items := []chart.Item{chart.PutItem(r)}
	if !p.seen && !seen[p] {
		r, err := fhir.ParseResource([]byte(fmt.Sprintf(`{"resourceType":"Patient","id":%q,"name":[{"text":"%x"}]}`, p.uuid, w.bytes(8))))
		if err != nil {
			return chart.Body{}, err
		}
		items = append(items, chart.PutItem(r))
	}
	p.seen, seen[p] = true, true
	return chart.Body{Items: items}, nil
}

// append writes records in one transaction. They are acknowledged when it returned.
func (w *world) append(b *box, drafts []store.Draft, bodies []chart.Body) error {
	err := b.ensureEpoch()
	var recs []record.Record
	if err == nil {
		err = b.unshown("saving", func() (err error) {
			recs, err = b.st.Append(context.Background(), drafts, func(made []record.Record) ([]store.Row, error) {
				for i, r := range made {
					w.authored[r.RID()] = &authored{r: r, by: b, body: bodies[i], says: true}
				}
				return nil, nil
			})
			return err
		})
	}
	if err != nil {
		return b.failed("saving", err)
	}
	for i := range recs {
		r := &recs[i]
		w.saves = append(w.saves, &save{r: *r, by: b, number: len(w.saves)})
		w.res.Saves++
		if i == 0 || i == len(recs)-1 {
			w.tracef("%s saves %s in lane %d n %d", b, r.RID().Short(), r.Core.Lane, r.Position().N)
		}
	}
	return w.touch(b)
}
