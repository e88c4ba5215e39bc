package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// What staff do: web.Clinic.

var _ web.Clinic = (*Node)(nil)

// formRow remembers what a form id saved, so that three taps are one record.
type formRow struct {
	_       struct{} `cbor:",toarray"`
	Content []byte   // SHA-256 of what was sent
	RID     []byte
	Patient []byte
}

const formIDMax = 64

func formKey(id string) []byte {
	h := sha256.Sum256([]byte(id))
	return append([]byte("form/"), h[:16]...)
}

// once runs save at most once for a form id and content, and gives every caller
// the first answer.
func (n *Node) once(formID string, content any, save func(row func(record.RID, record.CompartmentID) (store.Row, error)) error) (formRow, error) {
	var r formRow
	if formID == "" || len(formID) > formIDMax {
		return r, fmt.Errorf("saving a form: %w", web.ErrNotFound)
	}
	raw, err := record.Marshal(content)
	if err != nil {
		return r, err
	}
	sum := sha256.Sum256(raw)
	unlock := n.forms.lock(formID)
	defer unlock()
	key := formKey(formID)
	found, err := n.readRow(key, &r)
	if err != nil {
		return r, explain(err)
	}
	if found {
		if [32]byte(r.Content) != sum {
			return r, web.ErrFormUsed
		}
		return r, nil
	}
	err = save(func(rid record.RID, c record.CompartmentID) (store.Row, error) {
		r = formRow{Content: sum[:], RID: rid[:], Patient: c[:]}
		plain, err := record.Marshal(r)
		if err != nil {
			return store.Row{}, err
		}
		return n.sealedRow(key, plain)
	})
	return r, explain(err)
}

// Register makes a patient: a compartment, its key handed to the region, and the
// registration, in one transaction.
func (n *Node) Register(ctx context.Context, s web.Session, formID string, reg fhir.Registration) (string, error) {
	in, err := n.allow(ctx, s, policy.Register, "")
	if err != nil {
		return "", err
	}
	if err := fieldsError(reg.Validate()); err != nil {
		return "", err
	}
	r, err := n.once(formID, []any{"register", reg}, func(row func(record.RID, record.CompartmentID) (store.Row, error)) error {
		res, err := reg.Resources(rand.Reader)
		if err != nil {
			return err
		}
		_, err = n.saveNewPatient(ctx, in.n, record.LaneClinical, chart.Body{Items: chart.PutItems(res)}, row)
		return err
	})
	if err != nil {
		return "", err
	}
	return record.CompartmentID(r.Patient).String(), nil
}

func (n *Node) saveNewPatient(ctx context.Context, session uint64, lane record.Lane, body chart.Body, row func(record.RID, record.CompartmentID) (store.Row, error)) (record.CompartmentID, error) {
	c, key, wrap, err := n.vault.newCompartment(session)
	if err != nil {
		return c, err
	}
	draft, err := n.bodyDraft(lane, record.KindRegistration, c, key, session, body)
	if err != nil {
		return c, err
	}
	_, err = n.append(ctx, []store.Draft{wrap, draft}, func(placed []record.Record) ([]store.Row, error) {
		r, err := row(placed[1].RID(), c)
		return []store.Row{r}, err
	})
	return c, err
}

func (n *Node) bodyDraft(lane record.Lane, kind record.Kind, c record.CompartmentID, k dek, session uint64, body chart.Body) (store.Draft, error) {
	plain, err := chart.EncodeBody(body)
	if err != nil {
		return store.Draft{}, err
	}
	packed, err := n.vault.dictionaries.Pack(plain)
	if err != nil {
		return store.Draft{}, err
	}
	if size := packed.SealedLen(k.gen); size > record.BodyBytesMax {
		return store.Draft{}, fmt.Errorf("sealing a body of %d bytes: %w", size, seal.ErrTooLarge)
	}
	d := n.vault.draft(lane, kind, c, k, session, packed)
	if blobs := body.Announcements(); len(blobs) > 0 {
		d.Ext = map[uint64][]byte{record.ExtBlobs: record.EncodeBlobs(blobs)}
	}
	return d, nil
}

func fieldsError(fields []fhir.FieldError) error {
	var hard []fhir.FieldError
	for _, f := range fields {
		if !f.Soft {
			hard = append(hard, f)
		}
	}
	if len(hard) > 0 {
		return &web.FieldsError{Fields: hard}
	}
	return nil
}

// patient reads a patient id and gives the chart without what is kept apart by sensitive topics.
func (n *Node) patient(id string) (record.CompartmentID, chart.Chart, error) {
	c, ch, err := n.patientWith(id, nil)
	return c, ch.Seen(chart.Sight{}), err
}

// patientBy is patient for a session to which a card may have lent keys.
func (n *Node) patientBy(in *signedIn, id string) (record.CompartmentID, chart.Chart, error) {
	c, err := record.ParseCompartmentID(id)
	if err != nil {
		return c, chart.Chart{}, web.ErrNotFound
	}
	lent, err := n.lentTo(in, c)
	if err != nil {
		return c, chart.Chart{}, explain(err)
	}
	c, ch, err := n.patientWith(id, lent)
	return c, ch.Seen(chart.Sight{}), err
}

// patientFor is the chart as a session reads it: a card may have lent it keys, and the rules may let it see
// some of what is kept apart.
func (n *Node) patientFor(in *signedIn, id string) (record.CompartmentID, chart.Chart, error) {
	c, err := record.ParseCompartmentID(id)
	if err != nil {
		return c, chart.Chart{}, web.ErrNotFound
	}
	lent, err := n.lentTo(in, c)
	if err != nil {
		return c, chart.Chart{}, explain(err)
	}
	_, ch, err := n.patientWith(id, lent)
	if err != nil {
		return c, ch, err
	}
	s, err := n.sight(in, c, ch.Topics(), policy.Treatment)
	if err != nil {
		return c, chart.Chart{}, explain(err)
	}
	return c, ch.Seen(s), nil
}

// patientWith is the chart as this box holds it, with keys that were lent.
func (n *Node) patientWith(id string, lent lentKeys) (record.CompartmentID, chart.Chart, error) {
	c, err := record.ParseCompartmentID(id)
	region, _ := n.box.RegionID()
	if err != nil || c == directory(region) {
		return c, chart.Chart{}, web.ErrNotFound
	}
	if err := n.erasedError(c); err != nil {
		return c, chart.Chart{}, explain(err)
	}
	ch, err := n.fold(c, lent)
	if err == nil && ch.Patient == nil {
		err = web.ErrNotFound
	}
	return c, ch, explain(err)
}

// fold opens and folds one compartment with names and states.
func (n *Node) fold(c record.CompartmentID, lent lentKeys) (chart.Chart, error) {
	opened, left, err := n.openWhole(c, lent)
	if err != nil {
		return chart.Chart{}, err
	}
	missing, err := n.store.MissingOf(c)
	if err != nil {
		return chart.Chart{}, err
	}
	st, err := n.newStates()
	if err != nil {
		return chart.Chart{}, err
	}
	for i := range opened {
		o := &opened[i]
		o.Author = n.authorName(&o.Record)
		if o.State, err = st.of(o.Record.RID()); err != nil {
			return chart.Chart{}, err
		}
	}
	ch := chart.Fold(opened)
	ch.Incomplete, ch.Closed = missing || left.some, left.closed
	if left.closed.Records > 0 {
		d, err := n.directives(c)
		if err != nil {
			return chart.Chart{}, err
		}
		con := d.consent()
		ch.Closed.Homes = n.homesOf(&d, &con)
	}
	return ch, nil
}

// Open shows a chart. The line that says so is durable before it returns.
func (n *Node) Open(ctx context.Context, s web.Session, id string) (web.PatientView, error) {
	in, err := n.staff.get(s.Token, true)
	if err == nil && n.may(in, policy.Identify, id) && !n.may(in, policy.View, id) {
		return n.identify(ctx, in, id)
	}
	if err == nil {
		in, err = n.allow(ctx, s, policy.View, id)
	}
	if err != nil {
		return web.PatientView{}, err
	}
	c, ch, err := n.patientFor(in, id)
	if err != nil {
		return web.PatientView{}, err
	}
	if err := n.noteAccess(ctx, in, c, accessView); err != nil {
		return web.PatientView{}, explain(err)
	}
	if n.completeChart(ctx, c) {
		if c, ch, err = n.patientFor(in, id); err != nil {
			return web.PatientView{}, err
		}
	}
	files, err := n.fileStates(&ch)
	if err != nil {
		return web.PatientView{}, explain(err)
	}
	var devices []web.FieldDevice
	if n.may(in, policy.Give, id) {
		devices, err = n.fieldDevices(c)
	}
	view := web.PatientView{ID: id, Row: ch.Row(), Chart: ch, Files: files, Devices: devices}
	if v := n.decide(in, policy.View, id); err == nil && v.Grant.ID != "" {
		if view.Decided, err = n.decidedOf(c, v); err == nil && view.Decided.ByCard {
			var lent lentKeys
			lent, err = n.lentTo(in, c)
			view.Decided.Lent = len(lent) > 0
		}
	}
	return view, explain(err)
}

// identify shows who somebody is to who may see no more of the chart. Where it is the
// patient who decided that, the try is on record as refused, and the page says so.
func (n *Node) identify(ctx context.Context, in *signedIn, id string) (web.PatientView, error) {
	c, ch, err := n.patient(id)
	if err != nil {
		return web.PatientView{}, err
	}
	var by *web.Decided
	if v := n.decide(in, policy.View, id); slices.Contains(v.Rules, ruleLimited) {
		if err := n.noteRefusal(ctx, in, policy.View, id); err != nil {
			return web.PatientView{}, explain(err)
		}
		if by, err = n.decidedOf(c, v); err != nil {
			return web.PatientView{}, explain(err)
		}
	}
	if err := n.noteAccess(ctx, in, c, actionCode(policy.Identify)); err != nil {
		return web.PatientView{}, explain(err)
	}
	ch = ch.Identity()
	return web.PatientView{ID: id, Row: ch.Row(), Chart: ch, Limited: true, Emergency: n.may(in, policy.Emergency, id), Decided: by}, nil
}

// SaveVisit stores one visit as one record, in the urgent lane when it is urgent.
func (n *Node) SaveVisit(ctx context.Context, s web.Session, patientID, formID string, v fhir.Visit) (web.Saved, error) {
	in, err := n.allow(ctx, s, policy.Write, patientID)
	if err != nil {
		return web.Saved{}, err
	}
	blobs, err := n.filesOf(in, formID, &v)
	if err == nil {
		err = fieldsError(v.Validate())
	}
	if err != nil {
		return web.Saved{}, explain(err)
	}
	content := v
	content.At = time.Time{} // the moment of a tap is not what was typed
	typed, err := n.typed(in, patientID, []any{"visit", patientID, content})
	if err != nil {
		return web.Saved{}, err
	}
	r, err := n.once(formID, typed, func(row func(record.RID, record.CompartmentID) (store.Row, error)) error {
		c, ch, err := n.patientFor(in, patientID)
		if err != nil {
			return err
		}
		res, err := v.Resources(rand.Reader, patientReference(&ch), s.StaffName)
		if err != nil {
			return err
		}
		lane := record.LaneClinical
		if v.Urgent {
			lane = record.LaneControl
		}
		return n.saveInto(ctx, in, lane, record.KindClinical, c, chart.Body{Items: chart.PutItems(res), Blobs: blobs}, row)
	})
	if err != nil {
		return web.Saved{}, err
	}
	rid := record.RID(r.RID)
	st, err := n.newStates()
	if err != nil {
		return web.Saved{}, explain(err)
	}
	state, err := st.of(rid)
	return web.Saved{RID: rid.String(), State: state}, explain(err)
}

func patientReference(ch *chart.Chart) string {
	r := ch.Patient.Resource()
	if r.ID != "" {
		return r.ID
	}
	return r.FullURL
}

// saveInto writes one record into a patient's compartment, with the keys that it is sealed under where they are new.
func (n *Node) saveInto(ctx context.Context, in *signedIn, lane record.Lane, kind record.Kind, c record.CompartmentID, body chart.Body, row func(record.RID, record.CompartmentID) (store.Row, error)) error {
	unlock := n.forms.lock("keys " + c.String())
	defer unlock()
	lent, err := n.lentTo(in, c)
	if err != nil {
		return err
	}
	s, err := n.sealing(c, in.n, lent)
	if err != nil {
		return err
	}
	draft, err := n.bodyDraft(lane, kind, c, s.dek, in.n, body)
	if err != nil {
		return err
	}
	_, err = n.append(ctx, append(s.wraps, draft), func(placed []record.Record) ([]store.Row, error) {
		r, err := row(placed[len(placed)-1].RID(), c)
		return []store.Row{r}, err
	})
	return err
}

// AmendPatient replaces the versions in base by new details.
func (n *Node) AmendPatient(ctx context.Context, s web.Session, patientID, formID string, reg fhir.Registration, base []chart.Ref) error {
	in, err := n.allow(ctx, s, policy.Amend, patientID)
	if err != nil {
		return err
	}
	if err := fieldsError(reg.Validate()); err != nil {
		return err
	}
	refs := []string{}
	for _, b := range base {
		refs = append(refs, b.String())
	}
	typed, err := n.typed(in, patientID, []any{"amend", patientID, reg, refs})
	if err != nil {
		return err
	}
	_, err = n.once(formID, typed, func(row func(record.RID, record.CompartmentID) (store.Row, error)) error {
		c, ch, err := n.patientFor(in, patientID)
		if err != nil {
			return err
		}
		current, err := versionOf(&ch, base)
		if err != nil {
			return err
		}
		amended, err := reg.Amend(current)
		if err != nil {
			return err
		}
		return n.saveInto(ctx, in, record.LaneClinical, record.KindRegistration, c, chart.Body{Items: []chart.Item{chart.PutItem(amended, base...)}}, row)
	})
	return err
}

// versionOf is the version of the patient's own resource that an amendment
// starts from: the first of base that is known.
func versionOf(ch *chart.Chart, base []chart.Ref) (fhir.Resource, error) {
	for _, v := range append(append([]chart.Version(nil), ch.Patient.Heads...), ch.Patient.Past...) {
		for _, b := range base {
			if v.Ref == b && v.Op == chart.OpPut {
				return v.Resource, nil
			}
		}
	}
	return fhir.Resource{}, fmt.Errorf("amending a patient: no version named is here: %w", web.ErrNotFound)
}

// Retract withdraws an item, or a whole visit when ref names its encounter.
func (n *Node) Retract(ctx context.Context, s web.Session, patientID, formID string, ref chart.Ref, reason string) error {
	in, err := n.allow(ctx, s, policy.Retract, patientID)
	if err != nil {
		return err
	}
	typed, err := n.typed(in, patientID, []any{"retract", patientID, ref.String(), reason})
	if err != nil {
		return err
	}
	_, err = n.once(formID, typed, func(row func(record.RID, record.CompartmentID) (store.Row, error)) error {
		c, ch, err := n.patientFor(in, patientID)
		if err != nil {
			return err
		}
		items := ch.Retraction(ref)
		if len(items) == 0 {
			return web.ErrNotFound
		}
		return n.saveInto(ctx, in, record.LaneClinical, record.KindClinical, c, chart.Body{Reason: reason, Items: items}, row)
	})
	return err
}

// States tells how far each record has come, of those in compartments that may be opened.
func (n *Node) States(_ context.Context, s web.Session, rids []string) (map[string]chart.State, error) {
	if _, err := n.staff.get(s.Token, false); err != nil {
		return nil, err
	}
	st, err := n.newStates()
	if err != nil {
		return nil, explain(err)
	}
	out := map[string]chart.State{}
	for _, text := range rids {
		rid, err := record.ParseRID(text)
		if err != nil {
			continue
		}
		if state, ok, err := st.find(rid); err != nil {
			return nil, explain(err)
		} else if ok {
			out[text] = state
		}
	}
	return out, nil
}

// Watch signals that something a page shows may have changed.
func (n *Node) Watch(ctx context.Context) <-chan struct{} { return n.dirty.subscribe(ctx) }

// SyncNow wakes the exchange with every peer.
func (n *Node) SyncNow(ctx context.Context, s web.Session) error {
	if _, err := n.allow(ctx, s, policy.Links, ""); err != nil {
		return err
	}
	if r := n.up.Load(); r != nil {
		r.links.syncNow()
	}
	return nil
}

// Box describes this box.
func (n *Node) Box(context.Context) web.Box {
	_, name, _ := n.store.Region()
	b := web.Box{Name: n.box.Name, Role: string(n.box.Role), Region: name, Version: Version, Languages: n.o.Language}
	staff := false
	err := n.store.ScanRows([]byte("staff/"), 1, func(_, _ []byte) bool { staff = true; return false })
	b.NeedsFirstStaff = err == nil && !staff
	b.ReadOnly = n.store.Full()
	b.Faulted = n.store.Err() != nil
	b.Stick = n.sticks.plugged.Load()
	if b.Faults, err = n.told(); err != nil && n.store.Err() == nil {
		n.log.Error().Err(err).Msg("reading what staff are to be told")
	}
	return b
}
