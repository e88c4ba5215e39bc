package upgrade_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/test/rig"
)

// maker drives one program of any release as people would, through commands and
// the page, until a region has something of everything that the release knows.
type maker struct {
	t       *testing.T
	program string
	dir     string
	rnd     *rand.Rand
	hubs    []*rig.Box
	clinics []*rig.Box
	links   []*rig.Link
	f       Fixture
}

// makeFixture makes the archive of a program's release.
func makeFixture(t *testing.T, program, to string) {
	t.Helper()
	m := &maker{t: t, program: program, dir: t.TempDir(), rnd: rand.New(rand.NewPCG(1, 2))}
	m.begin()
	m.work()
	m.partial()
	m.waitSame()
	m.keep()
	m.leavePending()
	m.stop()
	if err := pack(m.dir, to); err != nil {
		t.Fatalf("writing %s: %v", to, err)
	}
}

func (m *maker) box(name, role string) *rig.Box {
	m.t.Helper()
	dir := strings.ReplaceAll(strings.ToLower(name), " ", "-")
	m.f.Boxes = append(m.f.Boxes, KeptBox{Name: name, Role: role, Dir: dir})
	return rig.NewBoxOf(m.t, m.program, filepath.Join(m.dir, dir), name, role)
}

// knows says whether this release has a command.
func (m *maker) knows(command ...string) bool {
	last := len(command) - 1
	help := m.hubs[0].Command("", append(command[:last:last], "--help")...)
	for line := range strings.Lines(help.Out) {
		if word, _, _ := strings.Cut(strings.TrimSpace(line), " "); word == command[last] && strings.HasPrefix(line, "  ") {
			return true
		}
	}
	return false
}

// begin founds a region of three hubs and two clinics.
func (m *maker) begin() {
	m.t.Helper()
	first := m.box("Hub 1", "hub")
	m.hubs = []*rig.Box{first}
	first.Must("region", "create", "Kibuye district")
	first.Start()
	for _, name := range []string{"Hub 2", "Hub 3"} {
		b := m.box(name, "hub")
		m.admit(b)
		m.hubs = append(m.hubs, b)
	}
	m.eventually("every hub to vote", func() string {
		s, why := first.TryStatus()
		if why == "" && s.Voters != len(m.hubs) {
			why = s.Ordering
		}
		return why
	})
	for _, name := range []string{"Clinic 1", "Clinic 2"} {
		b := m.box(name, "clinic")
		m.admit(b)
		m.clinics = append(m.clinics, b)
	}
}

func (m *maker) admit(b *rig.Box) {
	m.t.Helper()
	var inv node.Invited
	if err := json.Unmarshal([]byte(m.hubs[0].Must("region", "invite", "--role", b.Role, "--json")), &inv); err != nil {
		m.t.Fatal(err)
	}
	joined := make(chan rig.Result, 1)
	go func() { joined <- b.Command("", "join", inv.Text) }()
	if b.Role == "hub" && len(m.hubs) > 1 && m.knows("region", "hubs") {
		m.eventually("a second hub to hear of "+b.Name, func() string {
			return m.hubs[1].Command("", "region", "hubs", "approve", b.Name).Err
		})
	}
	if j := <-joined; j.Code != 0 {
		m.t.Fatalf("%s: joining: exit code %d\n%s%s", b.Name, j.Code, j.Out, j.Err)
	}
	if b.Role != "hub" {
		var dial []string
		for _, x := range m.hubs {
			l := rig.NewLink(m.t, b, x)
			m.links, dial = append(m.links, l), append(dial, l.Address())
		}
		b.Configure(dial)
	}
	b.Start()
}

// work is what staff do at the clinics.
func (m *maker) work() {
	m.t.Helper()
	for _, b := range m.clinics {
		p := b.Page()
		for _, name := range []string{"Amina", "Beata"} {
			id := p.Register(name, "Uwase of "+b.Name)
			for range 3 {
				m.save(b, id)
			}
		}
	}
	m.clinics[0].Import(filepath.Join("..", "testdata", "fhir", "synthea-hiv-romaguera.json"))
	if p := m.clinics[0].Page(); strings.Contains(p.Must("/patient/"+m.f.Saved[0].Patient+"/visit"), `type="file"`) {
		m.saveWithPhoto(p, m.f.Saved[0].Patient)
	}
	if m.knows("dictionary") {
		m.dictionary()
	}
}

// dictionary makes the region's records shorter, and writes one that needs it.
func (m *maker) dictionary() {
	m.t.Helper()
	publish(m.t, m.hubs[0])
	m.waitSame()
	m.clinics[0].Import(household(m.t, 20))
}

// publish trains a dictionary on households and puts it into the ledger.
func publish(t *testing.T, hub *rig.Box) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "region.zdict")
	args := []string{"dictionary", "train", "--out", file}
	for person := range 20 {
		args = append(args, household(t, person))
	}
	hub.Must(args...)
	hub.Must("dictionary", "publish", file)
}

// household writes the bundle of one person whose visits say the same as everybody's.
func household(t *testing.T, person int) string {
	t.Helper()
	id := func(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", person+1, n) }
	entry := []string{fmt.Sprintf(`{"resource":{"resourceType":"Patient","id":%q,"name":[{"family":"Mugisha %d","given":["Grace"]}],"gender":"female","birthDate":"1988-03-04"}}`, id(0), person),
		fmt.Sprintf(`{"resource":{"resourceType":"Encounter","id":%q,"status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/%s"}}}`, id(1), id(0))}
	for i := range 8 {
		entry = append(entry, fmt.Sprintf(`{"resource":{"resourceType":"Observation","id":%q,"status":"final","code":{"text":"mid-upper arm circumference, left side, round %d of the village"},"subject":{"reference":"Patient/%s"},"encounter":{"reference":"Encounter/%s"},"valueQuantity":{"value":%d.50,"unit":"millimetres by colour tape"}}}`,
			id(10+i), i, id(0), id(1), 110+person))
	}
	path := filepath.Join(t.TempDir(), "household.json")
	if err := os.WriteFile(path, []byte(`{"resourceType":"Bundle","type":"collection","entry":[`+strings.Join(entry, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (m *maker) save(b *rig.Box, patient string) {
	m.t.Helper()
	v := rig.NewVisit(m.rnd, patient)
	m.f.Saved = append(m.f.Saved, KeptSave{Box: b.Name, Patient: patient, Record: b.Page().MustSave(v), Marker: v.Marker})
}

func (m *maker) saveWithPhoto(p *rig.Page, patient string) {
	m.t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 320, 240))
	for i := range img.Pix {
		img.Pix[i] = uint8(i / 4 % 320 / 8)
	}
	var photo bytes.Buffer
	if err := jpeg.Encode(&photo, img, nil); err != nil {
		m.t.Fatal(err)
	}
	v := rig.NewVisit(m.rnd, patient)
	rid, err := p.SaveFile(v, "photo.jpg", photo.Bytes())
	if err != nil {
		m.t.Fatal(err)
	}
	m.f.Saved = append(m.f.Saved, KeptSave{Box: p.Box.Name, Patient: patient, Record: rid, Marker: v.Marker})
}

// partial adds a field device that holds a part of the ledger.
func (m *maker) partial() {
	m.t.Helper()
	if !m.knows("region", "assign") {
		return
	}
	m.waitSame()
	b := m.box("Field 1", "field")
	m.admit(b)
	m.hubs[0].Must("region", "assign", b.Name, "partial", "--compartment", m.f.Saved[0].Patient)
	m.clinics = append(m.clinics, b)
	m.waitSame()
	m.save(b, b.Page().Register("Chantal", "Uwase of "+b.Name))
}

// keep writes down what every box holds now.
func (m *maker) keep() {
	m.t.Helper()
	first := m.clinics[0]
	for i := range m.f.Saved {
		s := &m.f.Saved[i]
		st, err := m.named(s.Box).RecordState(s.Record)
		if err != nil || st.State != "confirmed" {
			m.t.Fatalf("%s of %s is %q: %v", s.Record, s.Box, st.State, err)
		}
		s.State = st.State
	}
	m.f.Proof, m.f.Keys = "proof", "region.keys"
	first.Must("prove", m.f.Saved[0].Record, "--out", filepath.Join(m.dir, m.f.Proof))
	keys := m.hubs[0].Must("region", "keys")
	if err := os.WriteFile(filepath.Join(m.dir, m.f.Keys), []byte(keys), 0o600); err != nil {
		m.t.Fatal(err)
	}
	s := first.Status()
	m.f.Size, m.f.Root = s.Size, s.Root
}

// leavePending cuts a clinic off and lets its staff go on.
func (m *maker) leavePending() {
	m.t.Helper()
	b := m.clinics[1]
	for _, l := range m.links {
		if l.From == b {
			l.Set(false)
		}
	}
	patient := b.Page().Register("Denise", "Uwase alone")
	for range 2 {
		m.save(b, patient)
	}
	for i := range m.f.Saved {
		if s := &m.f.Saved[i]; s.State == "" {
			s.State = "saved"
		}
	}
}

// stop takes the last export of each box and ends it.
func (m *maker) stop() {
	m.t.Helper()
	for i := range m.f.Boxes {
		k := &m.f.Boxes[i]
		b := m.named(k.Name)
		if k.Role != "hub" {
			k.Export = exported(b)
		}
		s := b.Status()
		k.Own = s.Pending + s.Shared
	}
	for _, b := range append(slices.Clone(m.clinics), m.hubs...) {
		b.Stop()
		b.Verify()
	}
	raw, err := json.MarshalIndent(&m.f, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(m.dir, fixtureFile), raw, 0o600)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *maker) named(name string) *rig.Box {
	m.t.Helper()
	for _, b := range append(slices.Clone(m.clinics), m.hubs...) {
		if b.Name == name {
			return b
		}
	}
	m.t.Fatalf("no box %q", name)
	return nil
}

func (m *maker) eventually(what string, f func() string) {
	m.t.Helper()
	rig.Eventually(m.t, rig.ConvergeMax, what, f)
}

func (m *maker) waitSame() {
	m.t.Helper()
	waitSame(m.t, append(slices.Clone(m.hubs), m.clinics...)...)
}

// exported is what a box exports, in an order that does not depend on the box.
func exported(b *rig.Box) []string {
	b.T.Helper()
	lines := b.Export()
	slices.Sort(lines)
	return lines
}
