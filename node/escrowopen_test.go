package node_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/web"
)

// escrowed has the hub vote for an escrow of two of three sheets, and gives what they say.
func escrowed(hub *clinic, others ...*clinic) (id string, sheets []string) {
	hub.t.Helper()
	public, shares := escrowFor(hub.t, hub, 2, 3)
	if v, err := hub.n.SetEscrow(hub.t.Context(), public); err != nil || !v.Passed {
		hub.t.Fatalf("the vote: %+v, %v", v, err)
	}
	for _, c := range others {
		c.until("the escrow", func(node.Status) bool { return c.n.EscrowKeyID() == public.ID })
	}
	for i := range shares {
		sheets = append(sheets, shares[i].Text())
	}
	return public.ID, sheets
}

// brings is the command with sheets, by who signed in first on this box.
func (c *clinic) brings(patient string, days int, sheets ...string) (node.EscrowOpened, error) {
	return c.n.OpenEscrowBy(c.t.Context(), node.EscrowRequest{Chart: patient, By: c.token.StaffID, PIN: pin, Shares: sheets, Days: days})
}

// lastLine is the newest access line that is in no record yet.
func (c *clinic) lastLine() string {
	c.t.Helper()
	lines, err := c.n.OpenLines()
	if err != nil || len(lines) == 0 {
		c.t.Fatalf("lines of the log: %v, %v", lines, err)
	}
	return lines[len(lines)-1]
}

// TestSheetsOpenWhatHomeAloneCould: the clinic where somebody is at home burned down. Sheets open the chart at
// another, all of it; the use is on record everywhere; what is written later goes to that clinic too, and
// to nobody else.
func TestSheetsOpenWhatHomeAloneCould(t *testing.T) {
	hub := newHub(t)
	home, b, c := newMember(t, hub, "Kibuye"), newMember(t, hub, "Soroti"), newMember(t, hub, "Moroto")
	first, sheets := escrowed(hub, home, b, c)
	patient := home.register("first", "Nakato")
	home.decides(patient, "limit", web.Decision{Do: web.DoLimit})
	home.visited(patient, "one", "fever")
	home.visited(patient, "two", "cough")
	b.robs(patient, "--")
	c.robs(patient, "--")
	wrongSheets(t, b, patient, sheets)

	if _, err := b.brings(patient, 0, sheets[:2]...); err == nil || !strings.Contains(err.Error(), "Kibuye is at home") {
		t.Errorf("without end while home is a member: %v", err)
	}
	home.stop()
	if _, err := hub.n.Revoke(t.Context(), "Kibuye", "burned down"); err != nil {
		t.Fatal(err)
	}
	together(hub, b, c)
	o, err := b.brings(patient, 0, sheets[2], sheets[0])
	if err != nil || o.Key != first || o.Keys != 1 || len(o.Others) != 0 || !o.Until.IsZero() || o.Tested {
		t.Fatalf("opened: %+v, %v", o, err)
	}
	b.readsAll(patient, 2)
	b.visited(patient, "three", "fever")
	together(hub, b, c)
	c.robs(patient, "---")
	hub.robs(patient, "---")
	onRecord(t, b, patient, first, hub, b, c)
	newerSheets(t, hub, b, c, patient, first, sheets)
}

// wrongSheets: nothing changes by them, and each try is a line.
func wrongSheets(t *testing.T, b *clinic, patient string, sheets []string) {
	_, others := escrowFor(t, b, 2, 3)
	foreign := []string{others[0].Text(), others[1].Text()}
	mistyped := strings.Replace(sheets[0], "-", "-U", 1)
	for name, x := range map[string]struct {
		sheets []string
		says   string
	}{
		"none":            {nil, "no sheet"},
		"too few":         {sheets[:1], "1 of them, 2 are needed"},
		"one twice":       {[]string{sheets[0], sheets[0]}, "is there twice"},
		"of another":      {[]string{sheets[0], foreign[1]}, "different keys"},
		"mistyped":        {[]string{sheets[1], mistyped}, "share 2: these sheets do not open the escrow: line 1 of sheet 1"},
		"never voted for": {foreign, "never voted for"},
		"far too many":    {slices.Repeat(sheets, 6), "18 sheets"},
	} {
		before := b.size()
		_, err := b.brings(patient, 7, x.sheets...)
		if !errors.Is(err, seal.ErrEscrow) || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: got %v, want ErrEscrow with %q", name, err, x.says)
		}
		if line := b.lastLine(); !strings.HasPrefix(line, "recover refused of a chart") {
			t.Errorf("%s: the line is %q", name, line)
		}
		if s, err := b.n.Status(t.Context()); err != nil || b.size() < before || s.Name == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.robs(patient, "--")
	nurse := b.signedInAs(t, "Nurse Only", "nurse")
	if _, err := b.n.OpenEscrow(t.Context(), nurse, node.EscrowRequest{Chart: patient, Shares: sheets[:2]}); !errors.Is(err, web.ErrRefused) {
		t.Errorf("a nurse opens with sheets: %v", err)
	}
	if _, err := b.n.OpenEscrowBy(t.Context(), node.EscrowRequest{Chart: patient, By: b.token.StaffID, PIN: "000111", Shares: sheets[:2]}); err == nil {
		t.Error("a wrong PIN opens with sheets")
	}
	if _, err := b.brings(strings.Repeat("0f", 16), 7, sheets[:2]...); !errors.Is(err, web.ErrNotFound) {
		t.Errorf("a chart that is not here: %v", err)
	}
	for _, chart := range []string{"", patient} {
		q := node.EscrowRequest{Chart: chart, By: b.token.StaffID, PIN: pin, Shares: sheets[:2], Test: true}
		o, err := b.n.OpenEscrowBy(t.Context(), q)
		if err != nil || !o.Tested || chart != "" && o.Keys != 1 || !strings.HasPrefix(b.lastLine(), "drill") {
			t.Errorf("a drill of %q: %+v, %v, %q", chart, o, err, b.lastLine())
		}
		q.Shares = foreign
		if _, err := b.n.OpenEscrowBy(t.Context(), q); !errors.Is(err, seal.ErrEscrow) || !strings.Contains(b.lastLine(), "refused") {
			t.Errorf("a drill with others' sheets: %v, %q", err, b.lastLine())
		}
	}
	b.robs(patient, "--")
	if v := b.open(patient); !v.Limited {
		t.Error("the chart is open after tries and drills")
	}
}

// onRecord: every box lists the use; the patient's list and the page of who may read say it.
func onRecord(t *testing.T, b *clinic, patient, key string, boxes ...*clinic) {
	t.Helper()
	for _, x := range boxes {
		list, err := x.n.Escrows()
		if err != nil || len(list.Used) != 1 || list.Used[0].Chart != patient || list.Used[0].Box != "Soroti" || list.Used[0].Key != key || !list.Used[0].Until.IsZero() {
			t.Errorf("uses at %s: %+v, %v", x.name(), list.Used, err)
		}
	}
	looks, err := b.n.Looks(t.Context(), b.token, patient)
	if err != nil || !slices.ContainsFunc(looks.Looks, func(l web.Look) bool { return l.What == "recover" && !l.Refused && l.Rules == "recovery" }) ||
		!slices.ContainsFunc(looks.Looks, func(l web.Look) bool { return l.What == "recover" && l.Refused }) {
		t.Errorf("the patient's list: %+v, %v", looks.Looks, err)
	}
	page, err := b.n.Consents(t.Context(), b.token, patient)
	if err != nil || len(page.Grants) != 1 || page.Grants[0].To != "Soroti" || !page.Grants[0].Until.IsZero() {
		t.Errorf("who may read: %+v, %v", page.Grants, err)
	}
}

// newerSheets: after another escrow was voted for, who writes next wraps to that one; the old sheets
// open what was before, where they are brought, and nothing newer.
func newerSheets(t *testing.T, hub, b, c *clinic, patient, first string, old []string) {
	second, sheets := escrowed(hub, b, c)
	b.visited(patient, "four", "cough")
	together(hub, b, c)
	o, err := c.brings(patient, 7, old[1:]...)
	if err != nil || o.Key != first || o.Keys != 2 || !slices.Equal(o.Others, []string{second}) || o.Until.IsZero() {
		t.Fatalf("with the sheets of before: %+v, %v", o, err)
	}
	c.robs(patient, "xxx-")
	together(b, c)
	b.visited(patient, "five", "fever")
	together(b, c)
	c.robs(patient, "xxx--")
	if o, err = c.brings(patient, 7, sheets[:2]...); err != nil || len(o.Others) != 0 {
		t.Fatalf("with the newer ones: %+v, %v", o, err)
	}
	c.readsAll(patient, 5)
	together(b, c)
	b.visited(patient, "six", "fever")
	c.readsAll(patient, 6)
	page, err := b.n.Consents(t.Context(), b.token, patient)
	i := slices.IndexFunc(page.Grants, func(g web.ConsentLine) bool { return g.To == "Moroto" })
	if err != nil || i < 0 {
		t.Fatalf("who may read: %+v, %v", page.Grants, err)
	}
	b.decides(patient, "end", web.Decision{Do: web.DoEnd, ID: page.Grants[i].ID}) // and with it the other to this box
	b.visited(patient, "seven", "cough")
	together(b, c)
	c.robs(patient, "xxxxxx-")
}
