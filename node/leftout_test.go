package node_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/web"
)

// exportSays exports, and gives the file with what the report says of what it lacks, as "why charts/entries". The file's last
// line has to say the same.
func (c *clinic) exportSays() (file, says string) {
	c.t.Helper()
	var out bytes.Buffer
	rep, err := c.n.Export(c.t.Context(), &out)
	if err != nil {
		c.t.Fatal(err)
	}
	file = out.String()
	if strings.Contains(file, `"OperationOutcome"`) != (len(rep.LeftOut) > 0) {
		c.t.Errorf("the report %+v and the file do not say the same", rep)
	}
	lines := strings.Split(strings.TrimSpace(file), "\n")
	for _, l := range rep.LeftOut {
		says += fmt.Sprintf("%s %d/%d ", l.Why, l.Charts, l.Entries)
		if want := fmt.Sprintf(`"text":%q,`, l.Text); !strings.Contains(strings.ReplaceAll(lines[len(lines)-1], "}", ","), want) {
			c.t.Errorf("the file's last line lacks %s: %s", want, lines[len(lines)-1])
		}
	}
	return file, strings.TrimSpace(says)
}

// sealedIn gives what today's list and a search say of entries that are sealed for others.
func (c *clinic) sealedIn(name string) (today, found int) {
	c.t.Helper()
	list, err := c.n.Today(c.t.Context(), c.token)
	if err != nil {
		c.t.Fatal(err)
	}
	rows, err := c.n.Find(c.t.Context(), c.token, name)
	if err != nil || len(rows) != 1 {
		c.t.Fatalf("finding: %d, %v", len(rows), err)
	}
	return list.Sealed, rows[0].Sealed
}

// TestPermissionByCard: what a permission opens that is written at another clinic while the card is shown there, with
// the clinic at home off and no network; what one without the card does not; and that lists and files say what
// they lack before, and nothing after.
func TestPermissionByCard(t *testing.T) {
	x := newCardRig(t)
	if _, says := x.home.exportSays(); says != "" {
		t.Errorf("a file from home lacks %q", says)
	}
	if file, says := x.away.exportSays(); says != "closed 1/3" || strings.Contains(file, "Nansubuga") {
		t.Errorf("a file from another clinic lacks %q, or names somebody", says)
	}
	if err := x.show(x.card.Code, cardPIN); err != nil {
		t.Fatal(err)
	}
	x.away.noted(x.patient, "granted-away", awayWord)
	x.home.until("what the other clinic wrote", func(node.Status) bool { return len(x.home.tellsOf(x.patient, awayWord)) == 1 })
	x.signOut()
	planted := web.Decision{Do: web.DoGrant, To: x.away.device(), Days: 3}
	if err := x.away.n.DecideUnasked(t.Context(), x.patient, planted); err != nil {
		t.Fatal(err)
	}
	if today, found := x.away.sealedIn("nansubuga"); today != 1 || found != 2 {
		t.Errorf("lists say that %d and %d entries are sealed for others, want 1 and 2", today, found)
	}
	if file, says := x.away.exportSays(); says != "sealed 0/2" || strings.Contains(file, homeWord) || len(x.away.tellsOf(x.patient, homeWord, awayWord)) != 0 {
		t.Errorf("by a permission that a root shell wrote, without the card: the file lacks %q", says)
	}
	x.offline(t)
	x.custodyHolds(t)
}

// offline: the card is shown where nobody else can be reached, and its holder permits that clinic to open the chart.
func (x *cardRig) offline(t *testing.T) {
	t.Helper()
	x.home.stop()
	if err := x.away.n.SetLink(false); err != nil {
		t.Fatal(err)
	}
	if err := x.show(x.card.Code, cardPIN); err != nil {
		t.Fatal(err)
	}
	page, err := x.away.n.Consents(t.Context(), x.away.token, x.patient)
	if err != nil || !page.ByCard || len(page.Boxes) != 2 {
		t.Errorf("the page of decisions by card: %+v, %v", page, err)
	}
	x.away.decides(x.patient, "granted", web.Decision{Do: web.DoGrant, To: x.away.device(), Days: 7})
	x.signOut()
	x.away.stop()
	x.away.start()
	x.away.signIn()
	if got := x.away.tellsOf(x.patient, homeWord, awayWord); len(got) != 2 {
		t.Fatalf("without the card the permission opens %v", got)
	}
	if today, found := x.away.sealedIn("nansubuga"); today+found != 0 {
		t.Errorf("lists say that %d and %d entries are sealed for others, want none", today, found)
	}
	if file, says := x.away.exportSays(); says != "" || !strings.Contains(file, homeWord) {
		t.Errorf("with the permission the file lacks %q", says)
	}
	x.ahead.Store(int64(8 * 24 * time.Hour))
	x.away.signIn()
	if x.away.reads(x.patient) {
		t.Error("after its end the permission opens the chart")
	}
	if err := x.away.n.Decide(t.Context(), x.away.token, x.patient, "granted-again", web.Decision{Do: web.DoGrant, PIN: pin}); !errors.Is(err, web.ErrRefused) {
		t.Errorf("after its end, another permission: %v", err)
	}
	x.ahead.Store(0)
}

// custodyHolds: who writes next at home hands that clinic no key before home permits it.
func (x *cardRig) custodyHolds(t *testing.T) {
	t.Helper()
	x.away.stop()
	x.away.start()
	x.away.signIn()
	x.home.start()
	x.home.signIn()
	if err := x.away.n.SetLink(true); err != nil {
		t.Fatal(err)
	}
	x.home.until("the permission", func(node.Status) bool {
		page, err := x.home.n.Consents(t.Context(), x.home.token, x.patient)
		return err == nil && len(page.Grants) == 2
	})
	after := x.home.noted(x.patient, "granted-after", "after the permission")
	x.away.holds(after)
	keys, err := x.away.n.KeysAtHand(x.patient)
	if err != nil || x.away.opensWith(after, keys) {
		t.Errorf("a box that home permitted nothing opens what home wrote: %v", err)
	}
	x.home.decides(x.patient, "granted-at-home", web.Decision{Do: web.DoGrant, To: x.away.device()})
	x.away.readsAll(x.patient, 4)
}

func (x *cardRig) signOut() {
	x.away.n.SignOut(x.away.ctx(), x.away.token.Token)
	x.away.signIn()
}

// TestLimitFromAFileClosesAllOfIt: of a file that brings a limit nothing is sealed for all, wherever in it the limit
// stands, and who has a root shell on another clinic reads nothing of it. Without a limit all of it opens.
func TestLimitFromAFileClosesAllOfIt(t *testing.T) {
	t.Parallel()
	hub := newHub(t)
	a, b := newMember(t, hub, "Kibuye"), newMember(t, hub, "Soroti")
	withEscrow(hub, a, b)
	consent := `,{"resource":{"resourceType":"Consent","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},` +
		`"category":[{"text":"reading"}],"patient":{"reference":"Patient/%s"},"policyRule":{"text":"as asked"},"provision":{"type":"deny"}}}`
	people := map[string]string{"Okello": "", "Banda": fmt.Sprintf(consent, "p-Banda")}
	found := map[string]string{}
	for family, limit := range people {
		file := strings.TrimSuffix(hospitalFile("p-"+family, family, "female", "o-"+family, "60"), "]}")
		file += `,{"resource":{"resourceType":"Encounter","id":"e-` + family + `","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p-` + family + `"}}}`
		if rep := a.take(file + limit + "]}"); rep.RefusedCount != 0 {
			t.Fatalf("refused: %+v", rep.Refused)
		}
		rows, err := a.n.Find(t.Context(), a.token, family)
		if err != nil || len(rows) != 1 {
			t.Fatalf("finding at home: %d, %v", len(rows), err)
		}
		found[family] = rows[0].ID
	}
	together(hub, a, b)
	for family, patient := range found {
		opens, all, err := b.n.RobsAny(b.n, patient)
		want := all
		if people[family] != "" {
			want = 0
		}
		if err != nil || all < 2 || opens != want {
			t.Errorf("a thief opens %d of %d records, want %d: %v", opens, all, want, err)
		}
	}
	if !a.reads(found["Banda"]) || len(b.find("banda")) != 0 || len(b.find("okello")) != 1 {
		t.Error("it is not open where it was taken in, or found elsewhere")
	}
	if _, says := b.exportSays(); !strings.HasPrefix(says, string(fhir.LeftClosed)+" 1/") {
		t.Errorf("a file from the other clinic lacks %q", says)
	}
	a.decides(found["Banda"], "permit", web.Decision{Do: web.DoGrant, To: b.device(), Days: 7})
	b.until("the keys", func(node.Status) bool { return len(b.find("banda")) == 1 })
}
