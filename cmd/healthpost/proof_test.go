package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/record/printed"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/web"
)

// clinic is a standalone box in a folder, with one staff member.
type clinic struct {
	dir string
	o   node.Options
}

func newClinic(t *testing.T) *clinic {
	t.Helper()
	dir := t.TempDir()
	if _, err := node.Init(dir, record.RoleStandalone, "Test box"); err != nil {
		t.Fatal(err)
	}
	o := node.NewOptions(dir)
	o.Page, o.LAN, o.Listen = "", false, []string{"/ip4/127.0.0.1/tcp/0"}
	o.PIN = seal.PINParams{MemoryKiB: 64, Passes: 1, Threads: 1}
	o.Store.BallastBytes = 1 << 20
	return &clinic{dir, o}
}

// opened hands the box, running or not, to f and closes it afterwards.
func (c *clinic) opened(t *testing.T, running bool, f func(n *node.Node)) {
	t.Helper()
	n, err := node.Open(c.o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Errorf("closing the box: %v", err)
		}
	}()
	if !running {
		f(n)
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- n.Run(ctx, func(string) { close(ready) })
		close(done)
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stopping the box: %v", err)
		}
	}()
	select {
	case <-ready:
		f(n)
	case err := <-done:
		t.Errorf("the box stopped at its start: %v", err)
	}
}

// visit saves one of a new patient and gives the record's id.
func visit(t *testing.T, n *node.Node, form string) string {
	t.Helper()
	ctx := t.Context()
	tiles, err := n.Staff(ctx)
	if err == nil && len(tiles) == 0 {
		if err = n.AddStaff(ctx, nil, web.NewStaff{Name: "Amina Test", PIN: "314159"}); err == nil {
			tiles, err = n.Staff(ctx)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	token, err := n.SignIn(ctx, tiles[0].ID, "314159")
	if err != nil {
		t.Fatal(err)
	}
	s, err := n.Session(ctx, token)
	if err != nil {
		t.Fatal(err)
	}
	patient, err := n.Register(ctx, s, form+"-patient", fhir.Registration{Given: "Nakato", Family: "Testova", Sex: "female", BirthDate: "2021", Village: "Mbale"})
	if err != nil {
		t.Fatal(err)
	}
	saved, err := n.SaveVisit(ctx, s, patient, form, fhir.Visit{At: time.Now(), Temperature: "38.5", Problem: "fever"})
	if err != nil {
		t.Fatal(err)
	}
	return saved.RID
}

// confirmed waits until everything on the box has its place.
func confirmed(t *testing.T, n *node.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for changed := n.Watch(ctx); ; {
		s, err := n.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if s.Pending == 0 && s.Shared == 0 && s.Size == s.Confirmed {
			return
		}
		if _, ok := <-changed; !ok {
			t.Fatalf("records wait for their place: %+v", s)
		}
	}
}

// healthpost runs one command in this process and gives what it prints.
func healthpost(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, err := healthpost(t, args...)
	if err != nil {
		t.Fatalf("healthpost %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// mustJSON runs one command with --json and reads what it prints into v.
func mustJSON(t *testing.T, v any, args ...string) {
	t.Helper()
	if err := json.Unmarshal([]byte(mustRun(t, append(args, "--json")...)), v); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// proofFiles is a folder with the proof of a visit and the keys, both made while
// the box ran, and nothing else; the box is stopped.
func proofFiles(t *testing.T, c *clinic) (rid, proof, keys string) {
	t.Helper()
	dir := t.TempDir()
	proof, keys = filepath.Join(dir, "visit.hpproof"), filepath.Join(dir, "keys.toml")
	c.opened(t, true, func(n *node.Node) {
		rid = visit(t, n, "form-1")
		confirmed(t, n)
		mustRun(t, "prove", rid, "--out", proof, "--data", c.dir)
		writeFile(t, keys, []byte(mustRun(t, "region", "keys", "--data", c.dir)))
	})
	return rid, proof, keys
}

func TestProve(t *testing.T) {
	c := newClinic(t)
	rid, proof, keys := proofFiles(t, c)
	t.Logf("proof of %d bytes", len(readFile(t, proof)))

	// A stopped box gives the same keys, and a proof that holds as well.
	again := filepath.Join(t.TempDir(), "again.hpproof")
	var made proveResult
	mustJSON(t, &made, "prove", rid, "--out", again, "--data", c.dir)
	if made.RID != rid || made.File != again || made.Bytes == 0 || made.Seq >= made.Size {
		t.Errorf("prove --json: got %+v", made)
	}
	keysJSON := writeFile(t, filepath.Join(t.TempDir(), "keys.json"), []byte(mustRun(t, "region", "keys", "--json", "--data", c.dir)))

	var status node.Status
	mustJSON(t, &status, "status", "--data", c.dir)
	t.Chdir(t.TempDir()) // a folder without a box
	t.Setenv("HEALTHPOST_DATA", filepath.Join(t.TempDir(), "none"))
	for _, files := range [][2]string{{proof, keys}, {proof, keysJSON}, {again, keys}} {
		var r checkedProof
		mustJSON(t, &r, "check-proof", files[0], "--keys", files[1])
		if !r.Holds || r.RID != rid || r.Device != status.Device || r.Class != "clinical (sealed)" || r.Seq >= r.Size || r.Hubs != 1 ||
			len(r.Signers) != 1 || r.Signers[0].Name != "Test box" || r.Region != status.Region || r.Time.IsZero() {
			t.Errorf("check-proof --json: got %+v", r)
		}
	}
	words := mustRun(t, "check-proof", proof, "--keys", keys)
	for _, want := range []string{"holds", rid, status.Device, "clinical", "1 of 1 hubs", "Test box"} {
		if !strings.Contains(words, want) {
			t.Errorf("check-proof does not say %q:\n%s", want, words)
		}
	}
	if left, err := os.ReadDir("."); err != nil || len(left) != 0 {
		t.Errorf("check-proof left %v, %v", left, err)
	}
}

// refuses wants check-proof to say why, on standard error alone or as JSON.
func refuses(t *testing.T, name, proof, keys, why string) {
	t.Helper()
	out, err := healthpost(t, "check-proof", proof, "--keys", keys)
	if err == nil || !strings.Contains(err.Error(), why) || out != "" {
		t.Errorf("%s: got %v and %q, want %q", name, err, out, why)
	}
	out, err = healthpost(t, "check-proof", proof, "--keys", keys, "--json")
	var r checkedProof
	if json.Unmarshal([]byte(out), &r) != nil || err == nil || r.Holds || !strings.Contains(r.Why, why) {
		t.Errorf("%s: as JSON got %v and %q", name, err, out)
	}
}

func TestCheckProofRefuses(t *testing.T) {
	c := newClinic(t)
	_, proof, keys := proofFiles(t, c)
	raw, text := readFile(t, proof), readFile(t, keys)
	k, err := node.ParseRegionKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	spoiled := bytes.Clone(raw)
	spoiled[len(spoiled)-1] ^= 1
	other := func(old, new string) []byte { return []byte(strings.Replace(string(text), old, new, 1)) }
	for name, x := range map[string]struct {
		proof, keys []byte
		why         string
	}{
		"a spoiled proof":           {spoiled, text, "does not hold"},
		"a proof cut short":         {raw[:len(raw)-1], text, "cut short"},
		"no proof":                  {text, text, "not a proof file"},
		"an empty file":             {nil, text, "not a proof file"},
		"a file too long":           {append(bytes.Clone(raw), make([]byte, 1<<20)...), text, "more than"},
		"another region":            {raw, other(k.Region, strings.Repeat("ab", 32)), "does not hold"},
		"another hub":               {raw, other(k.Hubs[0].Device, strings.Repeat("ab", 32)), "does not hold"},
		"two more hubs":             {raw, append(bytes.Clone(text), "\n[[hubs]]\ndevice = \""+strings.Repeat("ab", 32)+"\"\n[[hubs]]\ndevice = \""+strings.Repeat("cd", 32)+"\"\n"...), "1 of 3"},
		"a hub twice":               {raw, append(bytes.Clone(text), "\n[[hubs]]\ndevice = \""+k.Hubs[0].Device+"\"\n"...), "twice"},
		"keys without hubs":         {raw, []byte("format = 1\nregion = \"" + k.Region + "\"\n"), "0 hubs"},
		"keys of a later format":    {raw, other("format = 1", "format = 2"), "format 2"},
		"an unknown setting":        {raw, append([]byte("majority = 1\n"), text...), "majority"},
		"an unknown setting (JSON)": {raw, []byte(`{"majority": 1}`), "majority"},
		"keys that are none":        {raw, raw, "reading the keys"},
	} {
		refuses(t, name, writeFile(t, filepath.Join(dir, "proof"), x.proof), writeFile(t, filepath.Join(dir, "keys"), x.keys), x.why)
	}
}

func TestCheckProofExitCodes(t *testing.T) {
	_, proof, keys := proofFiles(t, newClinic(t))
	for want, args := range map[int][]string{
		0: {"check-proof", proof, "--keys", keys}, exitFailed: {"check-proof", keys, "--keys", keys}, exitUsage: {"check-proof", proof},
	} {
		if got := run(t.Context(), args); got != want {
			t.Errorf("healthpost %s: got exit code %d, want %d", strings.Join(args, " "), got, want)
		}
	}
}

// What has no place under a final checkpoint yet is told in words, and no file
// is left.
func TestProveRefuses(t *testing.T) {
	c := newClinic(t)
	proofFiles(t, c)
	var pending string
	c.opened(t, false, func(n *node.Node) { pending = visit(t, n, "form-2") })
	out := filepath.Join(t.TempDir(), "proof")
	for name, x := range map[string]struct{ rid, why string }{
		"a pending record":  {pending, "not in the regional record yet"},
		"an unknown record": {strings.Repeat("ab", 32), "not on this box"},
		"no record id":      {"abc", "64 hexadecimal digits"},
	} {
		if _, err := healthpost(t, "prove", x.rid, "--out", out, "--data", c.dir); err == nil || !strings.Contains(err.Error(), x.why) {
			t.Errorf("%s: got %v, want %q", name, err, x.why)
		}
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was left: %v", err)
	}
	c.opened(t, true, func(n *node.Node) { // once it has its place it can be proven
		confirmed(t, n)
		mustRun(t, "prove", pending, "--out", out, "--data", c.dir)
	})
	if _, err := healthpost(t, "prove", pending, "--out", out, "--data", c.dir); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a file that is there: got %v", err)
	}
	if _, err := healthpost(t, "region", "keys", "--data", newClinic(t).dir); err == nil || !strings.Contains(err.Error(), "no region") {
		t.Errorf("keys of a box without a region: got %v", err)
	}
}

// One record is opened for whoever gets the file, and no other; the file says
// just what was signed.
func TestProveDisclosesOneRecord(t *testing.T) {
	c := newClinic(t)
	dir := t.TempDir()
	file, keys := filepath.Join(dir, "visit.hpopen"), filepath.Join(dir, "keys.toml")
	var rid, other string
	c.opened(t, true, func(n *node.Node) {
		rid, other = visit(t, n, "form-1"), visit(t, n, "form-2")
		confirmed(t, n)
		var made proveResult
		mustJSON(t, &made, "prove", rid, "--body", "--out", file, "--data", c.dir)
		if !made.Disclosed || made.Bytes != len(readFile(t, file)) {
			t.Errorf("prove --body --json: got %+v", made)
		}
		writeFile(t, keys, []byte(mustRun(t, "region", "keys", "--data", c.dir)))
	})
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file is for others too: %v, %v", st.Mode(), err)
	}
	var r checkedProof
	mustJSON(t, &r, "check-proof", file, "--keys", keys, "--body")
	if !r.Holds || !r.Discloses || r.Says == nil || len(r.Says.Resources) == 0 || !strings.Contains(string(r.Says.Resources[0])+string(r.Says.Resources[len(r.Says.Resources)-1]), "resourceType") {
		t.Errorf("check-proof --body: got %+v", r)
	}
	if words := mustRun(t, "check-proof", file, "--keys", keys); !strings.Contains(words, "that is what was signed: --body shows it") || strings.Contains(words, "fever") {
		t.Errorf("check-proof without --body:\n%s", words)
	}
	if words := mustRun(t, "check-proof", file, "--keys", keys, "--body"); !strings.Contains(words, "fever") {
		t.Errorf("check-proof --body does not show the visit:\n%s", words)
	}
	raw := readFile(t, file)
	d, err := node.DecodeDisclosure(raw)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(f func(*node.Disclosure)) []byte {
		x := node.Disclosure{Proof: bytes.Clone(d.Proof), Key: d.Key, Body: bytes.Clone(d.Body)}
		f(&x)
		return x.Encode()
	}
	otherFile := filepath.Join(dir, "other.hpopen")
	mustRun(t, "prove", other, "--body", "--out", otherFile, "--data", c.dir)
	second, err := node.DecodeDisclosure(readFile(t, otherFile))
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		file []byte
		why  string
	}{
		"another body":         {changed(func(d *node.Disclosure) { d.Body = second.Body }), "does not hold"},
		"a spoiled body":       {changed(func(d *node.Disclosure) { d.Body[9] ^= 1 }), "does not hold"},
		"no body":              {changed(func(d *node.Disclosure) { d.Body = nil }), "does not hold"},
		"another record's key": {changed(func(d *node.Disclosure) { d.Key = second.Key }), "does not hold"},
		"no key":               {changed(func(d *node.Disclosure) { d.Key = seal.Key{} }), "does not hold"},
		"another proof":        {changed(func(d *node.Disclosure) { d.Proof = second.Proof }), "does not hold"},
		"cut short":            {raw[:40], "cut short"},
	} {
		refuses(t, name, writeFile(t, filepath.Join(dir, "spoiled"), x.file), keys, x.why)
	}
	if _, err := healthpost(t, "prove", rid, "--body", "--qr", "--out", filepath.Join(dir, "qr"), "--data", c.dir); err == nil || !strings.Contains(err.Error(), "--qr is for a proof without the body") {
		t.Errorf("a QR code of what a record says: got %v", err)
	}
}

// Old proofs extend to newer checkpoints, and a proof for a printed root needs no key.
func TestProofsOfOtherSizes(t *testing.T) {
	c := newClinic(t)
	rid, old, keys := proofFiles(t, c)
	dir := t.TempDir()
	var sheet node.RootSheet
	mustJSON(t, &sheet, "root", "--data", c.dir)
	var later string
	c.opened(t, true, func(n *node.Node) {
		later = visit(t, n, "form-9")
		confirmed(t, n)
	})
	extended := filepath.Join(dir, "extended")
	var made proveResult
	mustJSON(t, &made, "prove", "--extend", old, "--out", extended, "--data", c.dir)
	if made.RID != rid || made.Size <= sheet.Size {
		t.Errorf("extending: got %+v, the older one led to size %d", made, sheet.Size)
	}
	mustRun(t, "check-proof", extended, "--keys", keys)

	bare := filepath.Join(dir, "bare")
	size := strconv.FormatUint(sheet.Size, 10)
	words := mustRun(t, "prove", rid, "--at", size, "--qr", "--out", bare, "--data", c.dir)
	if !strings.Contains(words, "HPP1:") || !strings.Contains(words, "root of size "+size) {
		t.Errorf("prove --at --qr says:\n%s", words)
	}
	qr := words[strings.Index(words, "HPP1:"):]
	text := writeFile(t, filepath.Join(dir, "qr.txt"), []byte(qr[:strings.Index(qr, "\n")+1]))
	wordsFile := writeFile(t, filepath.Join(dir, "words.txt"), []byte(strings.ToUpper(strings.Join(sheet.Words, "\n"))))
	for _, args := range [][]string{{bare, "--root", sheet.Line}, {text, "--root", sheet.Line}, {bare, "--words", wordsFile, "--size", size}} {
		var r checkedProof
		mustJSON(t, &r, append([]string{"check-proof"}, args...)...)
		if !r.Holds || r.By != byPaper || r.RID != rid || r.Size != sheet.Size || r.Root != sheet.Root || len(r.Signers) != 0 {
			t.Errorf("%v: got %+v", args, r)
		}
	}
	for name, x := range map[string]struct {
		args []string
		why  string
	}{
		"a bare proof and keys":      {[]string{bare, "--keys", keys}, "does not hold"},
		"a proof of another size":    {[]string{extended, "--root", sheet.Line}, "--at " + size},
		"words with another size":    {[]string{bare, "--words", wordsFile, "--size", size + "0"}, "--at " + size + "0"},
		"words out of order":         {[]string{bare, "--words", writeFile(t, filepath.Join(dir, "w2"), []byte(strings.Join(append(sheet.Words[1:], sheet.Words[0]), " "))), "--size", size}, ""},
		"a line with a letter wrong": {[]string{bare, "--root", strings.Replace(sheet.Line, " g1 ", " g2 ", 1)}, "reading the root"},
		"no line":                    {[]string{bare, "--root", "HPR1"}, "reading the root"},
	} {
		if out, err := healthpost(t, append([]string{"check-proof"}, x.args...)...); err == nil || !strings.Contains(err.Error(), x.why) || out != "" {
			t.Errorf("%s: got %v and %q", name, err, out)
		}
	}
	for name, x := range map[string]struct {
		args []string
		why  string
	}{
		"later than the root":  {[]string{later, "--at", size}, "take a later one"},
		"a size that is not":   {[]string{rid, "--at", "1000000"}, "newest checkpoint on this box"},
		"an older proof's rid": {[]string{rid, "--extend", old}, "not both"},
		"nothing":              {nil, "RID is missing"},
		"no proof to extend":   {[]string{"--extend", keys}, "not a proof file"},
	} {
		if _, err := healthpost(t, append([]string{"prove", "--out", filepath.Join(dir, "none"), "--data", c.dir}, x.args...)...); err == nil || !strings.Contains(err.Error(), x.why) {
			t.Errorf("prove with %s: got %v, want %q", name, err, x.why)
		}
	}
}

func TestRoot(t *testing.T) {
	c := newClinic(t)
	proofFiles(t, c)
	var sheet node.RootSheet
	mustJSON(t, &sheet, "root", "--data", c.dir)
	if len(sheet.Words) != 24 || len(sheet.Line) > 160 || sheet.Size == 0 || len(sheet.SignedBy) != 1 {
		t.Errorf("root --json: got %+v", sheet)
	}
	if got := strings.TrimSpace(mustRun(t, "root", "--sms", "--data", c.dir)); got != sheet.Line {
		t.Errorf("root --sms: got %q, want %q", got, sheet.Line)
	}
	if got := strings.Fields(mustRun(t, "root", "--words", "--data", c.dir)); !slices.Equal(got, sheet.Words) {
		t.Errorf("root --words: got %q", got)
	}
	html := filepath.Join(t.TempDir(), "root.html")
	mustRun(t, "root", "--html", html, "--data", c.dir)
	for _, want := range []string{sheet.Words[23], sheet.Line, sheet.Day, "data:image/png"} {
		if !strings.Contains(string(readFile(t, html)), want) {
			t.Errorf("the sheet does not have %q", want)
		}
	}
	if got := mustRun(t, "root", "--check", sheet.Line, "--data", c.dir); !strings.Contains(got, "The same") {
		t.Errorf("root --check: got %q", got)
	}
	r, err := printed.Parse(sheet.Line)
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := record.ParseRegionID(sheet.Region)
	if err != nil {
		t.Fatal(err)
	}
	r.Ledger = ledger.Ledger(1)
	r.Head.Root[0] ^= 1
	if got := run(t.Context(), []string{"root", "--check", r.Line(), "--data", c.dir}); got != exitDamage {
		t.Errorf("root --check with another root: exit code %d, want %d", got, exitDamage)
	}
	r.Head.Size = 1 << 40
	if _, err := healthpost(t, "root", "--check", r.Line(), "--data", c.dir); err == nil || !strings.Contains(err.Error(), "let the box sync first") {
		t.Errorf("root --check with a later root: got %v", err)
	}
	r.Ledger.Region[0] ^= 1
	if _, err := healthpost(t, "root", "--check", r.Line(), "--data", c.dir); err == nil || !strings.Contains(err.Error(), "another region") {
		t.Errorf("root --check with another region's root: got %v", err)
	}
}
