package web_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/web"
)

// now is when all tests happen.
var now = time.Date(2026, 11, 21, 10, 30, 0, 0, time.UTC)

const (
	staffPIN = "314159"
	staffID  = "staff-1"
)

// fakeClinic is a box in memory: it keeps records as a real one would and folds them with chart.
type fakeClinic struct {
	mu       sync.Mutex
	box      web.Box
	counts   web.Counts
	sync     web.SyncPage
	proof    web.ProofPage
	root     web.RootPage
	staff    []web.StaffTile
	pins     map[string]string
	erased   map[string]time.Time
	sessions map[string]web.Session
	patients []string // ids in order
	records  map[string][]chart.Opened
	forms    map[string]formAnswer
	calls    map[string]int // saves asked for, by form id
	waiters  map[chan struct{}]bool
	fail     error // answered by every save
	locked   time.Duration
	n        uint64
	syncNow  int
	files    fakeFiles

	sticks    web.SticksPage
	stickJobs []string
	devices   []web.FieldDevice
	glass     map[string]bool // summaries that are open, by session and patient
	events    []web.EmergencyEvent
	decided   *web.Decided // of every patient
	closed    bool         // by what is decided
	consent   web.ConsentPage
	unopened  chart.Closed
	decisions []web.Decision // without their PINs
	cards     fakeCards

	taint func(string) string // of every text that people type; nil: as it is
}

// tainted is a text as the fake keeps it.
func (f *fakeClinic) tainted(texts ...*string) {
	for _, s := range texts {
		if f.taint != nil && *s != "" {
			*s = f.taint(*s)
		}
	}
}

type formAnswer struct{ content, answer string }

func newFake() *fakeClinic {
	f := &fakeClinic{
		box: web.Box{Name: "Kibuye clinic", Role: "clinic", Region: "Lake region", Version: "0.1.0", Languages: []string{"en", "fr"}},
		staff: []web.StaffTile{{ID: staffID, Name: "Amina Uwase", Initials: "AU", Roles: []string{"nurse", "administrator"}}, {ID: "staff-2", Name: "Jean Habimana", Initials: "JH", Roles: []string{"clinician"}},
			{ID: "staff-3", Name: "Grace Mukamana", Initials: "GM", Roles: []string{"registrar"}}},
		pins: map[string]string{staffID: staffPIN, "staff-2": "271828", "staff-3": "161803"}, sessions: map[string]web.Session{},
		records: map[string][]chart.Opened{}, erased: map[string]time.Time{}, forms: map[string]formAnswer{}, calls: map[string]int{}, waiters: map[chan struct{}]bool{}, glass: map[string]bool{},
	}
	f.sync = web.SyncPage{Disk: web.Disk{FreeBytes: 9 << 30, TotalBytes: 14 << 30}, Clock: web.Clock{Now: now, Trusted: true, Source: "hub"}}
	return f
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func (f *fakeClinic) Box(context.Context) web.Box { f.mu.Lock(); defer f.mu.Unlock(); return f.box }

func (f *fakeClinic) Counts(context.Context) web.Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.countsLocked()
}

// lacksKeys makes entries of every chart closed to the box.
func (f *fakeClinic) lacksKeys() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unopened = chart.Closed{Records: 2, Since: now.Add(-48 * time.Hour), Homes: []string{"Kibuye clinic"}}
}

// lacks makes the box one that does not hold all of the regional record.
func (f *fakeClinic) lacks(entries int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts.Absent = entries
}

func (f *fakeClinic) countsLocked() web.Counts {
	c := f.counts
	for _, records := range f.records {
		for _, r := range records {
			switch r.State.Kind {
			case chart.Saved:
				c.Pending++
				c.OnlyHere++
				if len(r.Body.Items) > 0 && r.Body.Items[0].Type == "Encounter" {
					c.VisitsOnlyHere++
				}
			case chart.Copied:
				c.Shared++
			case chart.Confirmed:
				c.Confirmed++
			case chart.Refused:
				c.Refused++
			}
		}
	}
	return c
}

func (f *fakeClinic) Staff(context.Context) ([]web.StaffTile, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]web.StaffTile(nil), f.staff...), nil
}

func (f *fakeClinic) AddStaff(_ context.Context, by *web.Session, s web.NewStaff) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if by == nil && len(f.staff) > 0 {
		return web.ErrRefused
	}
	id := fmt.Sprintf("staff-%d", len(f.staff)+1)
	f.staff = append(f.staff, web.StaffTile{ID: id, Name: s.Name, Initials: strings.ToUpper(s.Name[:1]), Roles: strings.Split(cmp.Or(s.Role, "nurse,administrator"), ",")})
	f.pins[id] = s.PIN
	f.box.NeedsFirstStaff = false
	return nil
}

// everyRight is that of somebody in all roles.
func everyRight() web.Rights {
	return web.Rights{web.MayIdentify: true, web.MayView: true, web.MayWrite: true, web.MayAmend: true, web.MayRetract: true, web.MayGive: true, web.MayReview: true, web.MayConsent: true, web.MayErase: true,
		web.MayFind: true, web.MayRegister: true, web.MayProve: true, web.MayCarry: true, web.MayStaff: true, web.MayEmergency: true, web.MayOversee: true}
}

// allow changes a right of everybody who is signed in.
func (f *fakeClinic) allow(right string, may bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for token, s := range f.sessions {
		s.May = maps.Clone(s.May)
		s.May[right] = may
		f.sessions[token] = s
	}
}

func (f *fakeClinic) Ask(_ context.Context, s web.Session, right, _ string) error {
	if !s.May[right] {
		return web.ErrRefused
	}
	return nil
}

func (f *fakeClinic) Looks(_ context.Context, s web.Session, id string) (web.LooksPage, error) {
	v, err := f.Open(context.Background(), s, id)
	if err != nil {
		return web.LooksPage{}, err
	}
	f.mu.Lock()
	events := slices.Clone(f.events)
	f.mu.Unlock()
	var gaps []web.LookGap
	if len(events) > 0 {
		gaps = []web.LookGap{{Box: "Rubavu clinic", Lines: 3, Since: now.Add(-30 * time.Hour)}, {Box: "Old tablet"}}
	}
	return web.LooksPage{Row: v.Row, Gaps: gaps, Emergencies: events, Looks: []web.Look{
		{At: now.Add(-time.Minute), Who: "Amina Uwase", Box: "Kibuye clinic", What: "view", Rules: "care", Size: 1204, Grant: "0123456789abcdef0123456789abcdef", Until: now.Add(7 * 24 * time.Hour)},
		{At: now.Add(-time.Hour), Who: "Jean Habimana", Box: "Rubavu clinic", What: "write", Refused: true, Rules: "limited", Size: 1180},
		{At: now.Add(-48 * time.Hour), Box: "Nyanza hub", What: "export"},
	}}, nil
}

func (f *fakeClinic) Emergency(_ context.Context, s web.Session, id string) (web.EmergencyPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.records[id] == nil {
		return web.EmergencyPage{}, web.ErrNotFound
	}
	v := f.viewLocked(id)
	p := web.EmergencyPage{Row: v.Row}
	if f.glass[s.Token+id] {
		p.Until, p.Summary = now.Add(web.EmergencyHours*time.Hour), v.Chart.Emergency()
		return p, nil
	}
	for _, x := range f.staff {
		if x.ID != s.StaffID {
			p.Staff = append(p.Staff, x)
		}
	}
	return p, nil
}

func (f *fakeClinic) BreakGlass(_ context.Context, s web.Session, id, formID string, g web.BreakGlass) error {
	if g.Second == s.StaffID {
		return web.ErrSecondPerson
	}
	f.mu.Lock()
	pin := f.pins[g.Second]
	f.mu.Unlock()
	if pin == "" || pin != g.PIN {
		return web.ErrWrongPIN
	}
	_, err := f.answer(formID, g.Reason, func() (string, error) {
		f.tainted(&g.Reason)
		f.glass[s.Token+id] = true
		f.events = append(f.events, web.EmergencyEvent{RID: fmt.Sprintf("%064x", len(f.events)+1), PatientID: id, Name: "Eric Ndayisaba", At: now.Add(-9 * 24 * time.Hour), Who: s.StaffName,
			Second: "Jean Habimana", Box: f.box.Name, Reason: g.Reason, Late: true})
		return "", nil
	})
	return err
}

func (f *fakeClinic) Emergencies(context.Context, web.Session) (web.EmergenciesPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return web.EmergenciesPage{List: slices.Clone(f.events)}, nil
}

func (f *fakeClinic) ReviewEmergency(_ context.Context, _ web.Session, rid, formID, note string) error {
	if len(note) < web.NoteMin {
		return web.ErrReason
	}
	_, err := f.answer(formID, rid+note, func() (string, error) {
		f.events = slices.DeleteFunc(f.events, func(e web.EmergencyEvent) bool { return e.RID == rid })
		return "", nil
	})
	return err
}

func (f *fakeClinic) Consents(ctx context.Context, s web.Session, id string) (web.ConsentPage, error) {
	v, err := f.Open(ctx, s, id)
	if err != nil {
		return web.ConsentPage{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	page := f.consent
	page.Row = v.Row
	return page, nil
}

func (f *fakeClinic) Decide(_ context.Context, s web.Session, id, formID string, d web.Decision) error {
	if f.locked > 0 {
		return &web.LockedError{Until: f.locked}
	}
	if f.pins[s.StaffID] != d.PIN {
		return web.ErrWrongPIN
	}
	d.PIN = ""
	_, err := f.answer(formID, id+fmt.Sprint(d), func() (string, error) {
		f.decisions = append(f.decisions, d)
		return "", nil
	})
	return err
}

// decideSomething gives every patient a limit, a grant that holds, one that is over and one that ended.
func (f *fakeClinic) decideSomething() {
	f.mu.Lock()
	defer f.mu.Unlock()
	line := func(n int, to string) web.ConsentLine {
		return web.ConsentLine{ID: strings.Repeat(fmt.Sprintf("%02x", n), 16), To: to, By: "Amina Uwase (Kibuye clinic)", At: now.Add(-time.Duration(n) * time.Hour), RID: strings.Repeat("0d", 32)}
	}
	holds, over, ended, limit := line(1, "Rubavu clinic"), line(2, "Nyanza clinic"), line(3, ""), line(4, "")
	holds.Until, holds.State = now.Add(6*24*time.Hour), chart.State{Kind: chart.Confirmed, Seq: 7}
	holds.Topics, holds.Purposes = []string{"hiv"}, []string{"treatment", "research"}
	over.Until, over.Over = now.Add(-time.Hour), true
	ended.EndedBy, ended.EndedAt = "Jean Habimana (Kibuye clinic)", now.Add(-time.Minute)
	ended.Unsigned = true
	limit.Limit, limit.EndedBy, limit.EndedAt = true, "Jean Habimana (Kibuye clinic)", now.Add(-2*time.Hour)
	f.consent = web.ConsentPage{Limited: true, Topics: fhir.TopicWords(), Escrow: true, Homes: []string{"Kibuye clinic"}, Grants: []web.ConsentLine{holds, over}, Ended: []web.ConsentLine{ended, limit},
		Boxes: []web.ConsentBox{{ID: strings.Repeat("b1", 32), Name: "Rubavu clinic"}, {ID: strings.Repeat("b2", 32), Name: "Nyanza clinic"}}}
}

func (f *fakeClinic) EndStaff(_ context.Context, _ web.Session, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.staff) == 1 {
		return web.ErrLastStaff
	}
	f.staff = slices.DeleteFunc(f.staff, func(s web.StaffTile) bool { return s.ID == id })
	return nil
}

func (f *fakeClinic) SignIn(_ context.Context, id, pin string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.locked > 0 {
		return "", &web.LockedError{Until: f.locked}
	}
	if f.pins[id] == "" || f.pins[id] != pin {
		return "", web.ErrWrongPIN
	}
	token := randomHex(16)
	for _, s := range f.staff {
		if s.ID == id {
			f.sessions[token] = web.Session{Token: token, StaffID: id, StaffName: s.Name, May: everyRight()}
		}
	}
	return token, nil
}

func (f *fakeClinic) Session(ctx context.Context, token string) (web.Session, error) {
	return f.Peek(ctx, token)
}

func (f *fakeClinic) Peek(_ context.Context, token string) (web.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.sessions[token]
	if !ok {
		return web.Session{}, web.ErrNotSignedIn
	}
	return s, nil
}

func (f *fakeClinic) SignOut(_ context.Context, token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.sessions, token)
}

func (f *fakeClinic) viewLocked(id string) web.PatientView {
	c := chart.Fold(f.records[id])
	c.Incomplete, c.Closed = f.counts.Absent > 0 || f.unopened.Records > 0, f.unopened
	if f.closed {
		c = c.Identity()
	}
	return web.PatientView{ID: id, Row: c.Row(), Chart: c, Files: f.files.states, Devices: slices.Clone(f.devices), Limited: f.closed, Decided: f.decided}
}

func (f *fakeClinic) Today(context.Context, web.Session) (web.Today, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := web.Today{Counts: f.countsLocked(), Sealed: f.unopened.Records, Emergencies: len(f.events), Late: len(f.events) > 0}
	for _, id := range f.patients {
		v := f.viewLocked(id)
		if len(v.Chart.Visits) == 0 {
			t.Waiting = append(t.Waiting, web.Waiting{PatientID: id, Row: v.Row, Since: now.Add(-25 * time.Minute)})
			continue
		}
		visit := v.Chart.Visits[0]
		row := web.VisitRow{PatientID: id, Row: v.Row, RID: visit.Shown.RID.String(), At: visit.At, Urgent: visit.View.Urgent, State: visit.Shown.State}
		row.Problem = visit.View.Reason.Code(fhir.SystemProblem)
		t.Recent = append(t.Recent, row)
	}
	sort.SliceStable(t.Recent, func(i, j int) bool { return t.Recent[i].At.After(t.Recent[j].At) })
	return t, nil
}

func (f *fakeClinic) Find(_ context.Context, _ web.Session, query string) ([]web.PatientRow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var rows []web.PatientRow
	for _, id := range f.patients {
		v := f.viewLocked(id)
		if _, ok := chart.Rank(query, v.Row); ok {
			rows = append(rows, web.PatientRow{ID: id, Row: v.Row, State: v.Chart.State(), Sealed: f.unopened.Records})
		}
	}
	return rows, nil
}

// answer runs a save once for a form id; the same content again gets the first answer.
func (f *fakeClinic) answer(formID, content string, save func() (string, error)) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[formID]++
	if f.fail != nil {
		return "", f.fail
	}
	if a, ok := f.forms[formID]; ok {
		if a.content != content {
			return "", web.ErrFormUsed
		}
		return a.answer, nil
	}
	answer, err := save()
	if err == nil {
		f.forms[formID] = formAnswer{content, answer}
		f.signalLocked()
	}
	return answer, err
}

func (f *fakeClinic) appendLocked(id, author, reason string, items []chart.Item, at time.Time, state chart.State) record.RID {
	f.n++
	core := record.Core{N: f.n, HLC: uint64(at.UnixMilli())<<16 | f.n, Clock: 1}
	rid := record.RID(sha256.Sum256([]byte(fmt.Sprint("record", f.n))))
	f.records[id] = append(f.records[id], chart.Opened{Record: record.Record{Core: core}, RID: rid, State: state, Author: author,
		Body: chart.Body{Reason: reason, Items: items}})
	return rid
}

func (f *fakeClinic) Register(_ context.Context, s web.Session, formID string, r fhir.Registration) (string, error) {
	return f.answer(formID, fmt.Sprint(r), func() (string, error) {
		return f.registerLocked(s.StaffName, r, now, chart.State{})
	})
}

func (f *fakeClinic) registerLocked(author string, r fhir.Registration, at time.Time, state chart.State) (string, error) {
	f.tainted(&author, &r.Given, &r.Family, &r.Village, &r.Mother, &r.Phone, &r.Card)
	resources, err := r.Resources(rand.Reader)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(fmt.Sprint("patient", len(f.patients))))
	id := hex.EncodeToString(sum[:16])
	f.patients = append(f.patients, id)
	f.appendLocked(id, author, "", chart.PutItems(resources), at, state)
	return id, nil
}

func (f *fakeClinic) Open(_ context.Context, _ web.Session, id string) (web.PatientView, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.records[id] == nil {
		return web.PatientView{}, web.ErrNotFound
	}
	if at, ok := f.erased[id]; ok {
		return web.PatientView{}, &web.ErasedError{At: at}
	}
	v := f.viewLocked(id)
	v.Emergency = f.closed
	return v, nil
}

func (f *fakeClinic) SaveVisit(_ context.Context, s web.Session, id, formID string, v fhir.Visit) (web.Saved, error) {
	rid, err := f.answer(formID, fmt.Sprintf("%+v", v), func() (string, error) {
		return f.visitLocked(s.StaffName, id, v, chart.State{})
	})
	return web.Saved{RID: rid}, err
}

func (f *fakeClinic) visitLocked(author, id string, v fhir.Visit, state chart.State) (string, error) {
	c := chart.Fold(f.records[id])
	if c.Patient == nil {
		return "", web.ErrNotFound
	}
	f.tainted(&author, &v.Note, &v.Treatment, &v.Advice, &v.Allergy, &v.ProblemOther)
	resources, err := v.Resources(rand.Reader, c.Patient.Resource().ID, author)
	if err != nil {
		return "", err
	}
	rid := f.appendLocked(id, author, "", chart.PutItems(resources), v.At, state)
	f.files.giveLocked(f.records[id], v.Files)
	return rid.String(), nil
}

func (f *fakeClinic) AmendPatient(_ context.Context, s web.Session, id, formID string, r fhir.Registration, base []chart.Ref) error {
	_, err := f.answer(formID, fmt.Sprint(r, base), func() (string, error) {
		return "", f.amendLocked(s.StaffName, id, r, base, now, chart.State{})
	})
	return err
}

func (f *fakeClinic) amendLocked(author, id string, r fhir.Registration, base []chart.Ref, at time.Time, state chart.State) error {
	c := chart.Fold(f.records[id])
	if c.Patient == nil {
		return web.ErrNotFound
	}
	res, err := r.Amend(c.Patient.Resource())
	if err != nil {
		return err
	}
	f.appendLocked(id, author, "", []chart.Item{chart.PutItem(res, base...)}, at, state)
	return nil
}

func (f *fakeClinic) Retract(_ context.Context, s web.Session, id, formID string, ref chart.Ref, reason string) error {
	_, err := f.answer(formID, ref.String()+reason, func() (string, error) {
		c := chart.Fold(f.records[id])
		items := c.Retraction(ref)
		if items == nil {
			return "", web.ErrNotFound
		}
		f.appendLocked(id, s.StaffName, reason, items, now, chart.State{})
		return "", nil
	})
	return err
}

func (f *fakeClinic) Erase(_ context.Context, s web.Session, id string, x web.Erasure) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.records[id] == nil:
		return web.ErrNotFound
	case x.Second == s.StaffID || !s.May[web.MayErase]:
		return web.ErrRefused
	case f.pins[x.Second] != x.PIN:
		return web.ErrWrongPIN
	}
	if x.Record == "" {
		f.erased[id] = now
		return nil
	}
	i := slices.IndexFunc(f.records[id], func(o chart.Opened) bool { return o.RID.String() == x.Record })
	if i < 0 {
		return web.ErrNotFound
	}
	f.records[id] = slices.Delete(slices.Clone(f.records[id]), i, i+1)
	return nil
}

func (f *fakeClinic) SyncPage(context.Context, web.Session) (web.SyncPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.sync
	p.Counts = f.countsLocked()
	return p, nil
}

func (f *fakeClinic) Sticks(context.Context, web.Session) (web.SticksPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sticks, nil
}

func (f *fakeClinic) ReadStick(_ context.Context, _ web.Session, stick, file string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stickJobs = append(f.stickJobs, "read "+stick+" "+file)
	return f.fail
}

func (f *fakeClinic) WriteStick(_ context.Context, _ web.Session, stick, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stickJobs = append(f.stickJobs, "write "+stick+" "+to)
	return f.fail
}

func (f *fakeClinic) SyncNow(context.Context, web.Session) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.syncNow++
	return nil
}

func (f *fakeClinic) Watch(ctx context.Context) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch := make(chan struct{}, 1)
	f.waiters[ch] = true
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.waiters, ch)
		close(ch)
	})
	return ch
}

func (f *fakeClinic) signalLocked() {
	for ch := range f.waiters {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (f *fakeClinic) States(_ context.Context, _ web.Session, rids []string) (map[string]chart.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string]chart.State{}
	for _, records := range f.records {
		for _, r := range records {
			for _, rid := range rids {
				if r.RID.String() == rid {
					all[rid] = r.State
				}
			}
		}
	}
	return all, nil
}

// setState moves every record of a patient to a state and tells the pages.
func (f *fakeClinic) setState(id string, s chart.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.records[id] {
		f.records[id][i].State = s
		f.records[id][i].Ordered, f.records[id][i].Seq = s.Kind == chart.Confirmed, uint64(i)
	}
	f.signalLocked()
}

// rid is the id of a patient's i-th record.
func (f *fakeClinic) rid(id string, i int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.records[id][i].RID.String()
}

// savesAsked is how often each form id was handed to a save.
func (f *fakeClinic) savesAsked() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]int{}
	for k, v := range f.calls {
		out[k] = v
	}
	return out
}

func (f *fakeClinic) visitCount(id string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(chart.Fold(f.records[id]).Visits)
}

// alphanumeric is text as a proof's code holds it, the same each time: base45 of what looks random.
func alphanumeric(letters int) string {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
	text := []byte("HPP1:")
	for i := 0; len(text) < letters; i++ {
		for _, b := range sha256.Sum256(fmt.Append(nil, i)) {
			text = append(text, alphabet[int(b)%len(alphabet)])
		}
	}
	return string(text[:letters])
}

// allFaults is one fault of each code the page knows, as a box could have them.
func allFaults() []web.Fault {
	args := map[string][]string{
		"peer_unreachable": {"Karongi hub"}, "peer_wrong_region": {"Goma clinic"}, "peer_version": {"Rubavu clinic"}, "peer_revoked": {"Old tablet"},
		"disk_low": {"820 MB"}, "clock_off": {"3 h"}, "no_contact": {"9"}, "restored": {"14", "Nyanza hub"}, "refused_republished": {"3"},
		"damage_repaired": {"1"}, "hub_rolled_back": {"Karongi hub"}, "unjust_refusal": {"Karongi hub"}, "hub_two_views": {"Karongi hub"},
		"other_ledger": {"Rubavu clinic"}, "forked": {"Old tablet"}, "cloned": {"Kibuye clinic"}, "promise_broken": {"Karongi hub", now.Add(-30 * time.Hour).Format(time.RFC3339)},
		"dictionary_missing": {"3"}, "stale_view": {now.Add(-50 * time.Hour).Format(time.RFC3339)}, "peer_bad_proof": {"Karongi hub"}, "damage_open": {"2"}, "split_view": {"Nyanza hub, Karongi hub"},
	}
	var all []web.Fault
	for _, code := range web.FaultCodes() {
		all = append(all, web.Fault{Code: code, Args: args[code]})
	}
	return all
}

// setFaults makes the box and its page of links tell these faults, and tells the pages.
func (f *fakeClinic) setFaults(faults ...web.Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range faults {
		faults[i].Args = slices.Clone(faults[i].Args)
		for j := range faults[i].Args {
			f.tainted(&faults[i].Args[j])
		}
	}
	f.box.Faults, f.sync.Faults = faults, faults
	f.signalLocked()
}

// people are the patients of seeded fakes, by what is special about them.
type people struct{ child, adult, waiting, conflict string }

// seed fills a fake with people in every state a page can show.
func seed(t testing.TB, f *fakeClinic) people {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	must := func(s string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	confirmed := chart.State{Kind: chart.Confirmed, Seq: 12}
	copied := chart.State{Kind: chart.Copied, To: []string{"Nyanza hub"}}
	p := people{}
	p.child = must(f.registerLocked("Amina Uwase", fhir.Registration{Given: "Eric", Family: "Ndayisaba", Sex: "male", BirthDate: "2024-03", Village: "Rubavu",
		Mother: "Claudine Ndayisaba", Card: "LR-00417"}, now.AddDate(0, -3, 0), confirmed))
	must(f.visitLocked("Jean Habimana", p.child, fhir.Visit{At: now.AddDate(0, -1, 0), Temperature: "38.9", Breaths: "44", Weight: "11.2", MUAC: "131",
		RDT: "positive", Problem: "malaria", Treatment: "Artemether-lumefantrine 20/120 mg, 1 tablet, twice a day, 3 days", ReturnIn: "2", Allergy: "Penicillin (rash)"}, confirmed))
	must(f.visitLocked("Amina Uwase", p.child, fhir.Visit{At: now.Add(-50 * time.Minute), DangerSigns: []string{"convulsions"}, Temperature: "39.6", Breaths: "58", SpO2: "93",
		RDT: "positive", Problem: "fever", Note: "Fits at home this morning.", Treatment: "Artesunate, first dose", Urgent: true}, copied))
	dose, err := fhir.ParseResource([]byte(`{"resourceType":"Immunization","id":"measles-1","status":"completed","vaccineCode":{"text":"Measles, first dose"},` +
		`"patient":{"reference":"Patient/1"},"occurrenceDateTime":"2026-10-14"}`))
	if err != nil {
		t.Fatal(err)
	}
	f.appendLocked(p.child, "Jean Habimana", "", []chart.Item{chart.PutItem(dose)}, now.AddDate(0, -1, -7), confirmed)
	p.adult = must(f.registerLocked("Grace Mukamana", fhir.Registration{Given: "Marie Chantal", Family: "Uwimana", Sex: "female", BirthDate: "1981", BirthEstimated: true,
		Village: "Karongi", Phone: "+250 700 000 017"}, now.AddDate(0, -2, 0), confirmed))
	must(f.visitLocked("Grace Mukamana", p.adult, fhir.Visit{At: now.Add(-2 * time.Hour), Systolic: "148", Diastolic: "94", Pulse: "82", Weight: "64", Problem: "hypertension",
		Advice: "Less salt. Walk every day.", ReturnIn: "28"}, chart.State{}))
	p.waiting = must(f.registerLocked("Amina Uwase", fhir.Registration{Given: "Odile", Family: "Mutesi", Sex: "female", BirthDate: "2026-02", Village: "Kibuye"}, now.Add(-25*time.Minute), chart.State{}))
	p.conflict = must(f.registerLocked("Amina Uwase", fhir.Registration{Given: "Samuel", Family: "Bizimana", Sex: "male", BirthDate: "1996-05-14", Village: "Gisenyi", Phone: "0788 111 222"}, now.AddDate(0, -4, 0), confirmed))
	base := chart.Fold(f.records[p.conflict]).Patient.Refs()
	for i, r := range []fhir.Registration{
		{Given: "Samuel", Family: "Bizimana", Sex: "male", BirthDate: "1996-05-14", Village: "Rubavu", Phone: "0788 111 222"},
		{Given: "Samuel", Family: "Bizimana", Sex: "male", BirthDate: "1996-05-14", Village: "Gisenyi", Phone: "0788 333 444"}} {
		author := []string{"Jean Habimana", "Esther Ineza"}[i]
		state := []chart.State{copied, confirmed}[i]
		// both were written over the first version, without knowing of each other
		f.tainted(&author, &r.Village, &r.Phone)
		first := f.records[p.conflict][0].Body.Items[0].Resource()
		res, err := r.Amend(first)
		if err != nil {
			t.Fatal(err)
		}
		f.appendLocked(p.conflict, author, "", []chart.Item{chart.PutItem(res, base...)}, now.Add(-time.Duration(30-i)*time.Hour), state)
	}
	must(f.visitLocked("Jean Habimana", p.conflict, fhir.Visit{At: now.Add(-26 * time.Hour), Problem: "wound", Treatment: "Cleaned and dressed", Note: "Left hand."},
		chart.State{Kind: chart.Refused, Reason: "quarantined"}))
	f.sync.Peers = []web.Peer{
		{ID: "a", Name: "Nyanza hub", Role: "hub", Link: web.LinkUp, LastContact: now.Add(-2 * time.Minute), Elsewhere: true, Sent: 1204, Waiting: 3, Received: 8816},
		{ID: "b", Name: "Karongi hub", Role: "hub", Link: web.LinkDown, LastContact: now.Add(-26 * time.Hour), Elsewhere: true, Sent: 998, Waiting: 209, Received: 8102, Fault: web.Fault{Code: "peer_unreachable", Args: []string{"Karongi hub"}}},
		{ID: "c", Name: "Rubavu clinic", Role: "clinic", Link: web.LinkTrying},
	}
	f.sync.Refused = []web.RefusedRecord{{RID: randomHex(32), PatientID: p.conflict, Name: "Samuel Bizimana", At: now.Add(-26 * time.Hour), Reason: "quarantined"}}
	f.sync.Faults = []web.Fault{{Code: "disk_low", Args: []string{"820 MB"}}}
	f.sync.Checkpoint = now.Add(-3 * time.Minute)
	f.proof = web.ProofPage{Size: 48_231, Box: "Kibuye clinic", Region: "Lake region", RegionID: strings.Repeat("5e1d0c9a", 8)[:32], Signed: now.Add(-3 * time.Minute),
		Hubs: []string{"Nyanza hub", "Karongi hub"}, Payload: alphanumeric(web.ProofPayloadMax)}
	f.root = web.RootPage{Region: "Lake region", RegionID: f.proof.RegionID, Gen: 1, Size: 48_231, Day: "2026-11-21", Signed: now.Add(-3 * time.Minute),
		Words: strings.Fields("absent cabin daring eager fabric gadget habit icon jacket kangaroo label machine naive oasis paddle quality rabbit saddle table umbrella vacant wagon yard zebra"),
		Line:  "HPR1 5e1d0c9a5e1d0c9a g1 48231 Yk3v1u0mJ0a8lqk7F2rXo9cQwzT5hBnE4sUdGpLiVyA 20261121 7c1e"}
	f.taintBoxLocked()
	return p
}

// taintBoxLocked taints what other boxes and their people said.
func (f *fakeClinic) taintBoxLocked() {
	f.tainted(&f.box.Name, &f.box.Region, &f.box.Version, &f.proof.Box, &f.proof.Region, &f.root.Region, &f.root.Line)
	for i := range f.staff {
		f.tainted(&f.staff[i].Name, &f.staff[i].Initials)
	}
	for i := range f.sync.Peers {
		f.tainted(&f.sync.Peers[i].Name)
	}
	for i := range f.proof.Hubs {
		f.tainted(&f.proof.Hubs[i])
	}
	for i := range f.sync.Refused {
		f.tainted(&f.sync.Refused[i].Name, &f.sync.Refused[i].Reason)
	}
}

func (f *fakeClinic) GiveTo(_ context.Context, _ web.Session, patientID, deviceID string, give bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.devices {
		if d := &f.devices[i]; d.ID == deviceID {
			if d.Has != give {
				d.Has, d.Waits = give, true
			}
			return nil
		}
	}
	return web.ErrRefused
}

// setLink changes what the box says of its links, and adds to its counts.
func (f *fakeClinic) setLink(p web.SyncPage, more web.Counts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sync.Why, f.sync.NextCall, f.sync.Usage, f.sync.Carried, f.sync.Missing = p.Why, p.NextCall, p.Usage, p.Carried, p.Missing
	if !p.Clock.Now.IsZero() {
		f.sync.Clock = p.Clock
		for i := range f.sync.Peers {
			f.sync.Peers[i].Link, f.sync.Peers[i].ContactUnsure, f.sync.Peers[i].Fault = web.LinkDown, true, web.Fault{}
		}
	}
	f.counts = more
	f.signalLocked()
}

func (f *fakeClinic) SeenFault(_ context.Context, _ web.Session, code string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if web.FaultKnown(code) && !web.FaultEnds(code) {
		return web.ErrRefused
	}
	same := func(x web.Fault) bool { return x.Code == code }
	f.sync.Faults, f.box.Faults = slices.DeleteFunc(f.sync.Faults, same), slices.DeleteFunc(f.box.Faults, same)
	f.signalLocked()
	return nil
}

func (f *fakeClinic) Proof(_ context.Context, _ web.Session, rid string) (web.ProofPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, records := range f.records {
		for _, r := range records {
			if r.RID.String() != rid {
				continue
			}
			if r.State.Kind != chart.Confirmed {
				return web.ProofPage{}, web.ErrNotConfirmed
			}
			row := f.viewLocked(id).Row
			p := f.proof
			p.RID, p.Seq, p.PatientID, p.Name = rid, r.State.Seq, id, row.Given+" "+row.Family
			return p, nil
		}
	}
	return web.ProofPage{}, web.ErrNotFound
}

func (f *fakeClinic) RootSheet(context.Context, web.Session) (web.RootPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.root.Size == 0 {
		return web.RootPage{}, web.ErrNotConfirmed
	}
	return f.root, nil
}
