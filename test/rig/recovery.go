package rig

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/healthpost/healthpost/node"
)

// Sheets agrees on recovery sheets, two of three, and gives their files.
func (r *Region) Sheets() []string {
	r.T.Helper()
	dir := filepath.Join(r.T.TempDir(), "sheets")
	var made struct {
		Files []string   `json:"files"`
		Vote  node.Voted `json:"vote"`
	}
	if err := json.Unmarshal([]byte(r.Hubs[0].Must("region", "recovery", "create", "--people", "3", "--needed", "2", "--out", dir, "--json")), &made); err != nil {
		r.T.Fatal(err)
	}
	if !made.Vote.Passed {
		id := made.Vote.Proposal.ID
		r.Eventually(ConvergeMax, "the word of another hub", func() string {
			if a := r.Hubs[1].Command("", "region", "hubs", "approve", id); a.Code != 0 {
				return a.Err
			}
			return ""
		})
	}
	return made.Files
}

// Reset runs the drill on a stopped box with two of the sheets.
func (b *Box) Reset(sheets []string, more ...string) node.ResetReport {
	b.T.Helper()
	args := append([]string{"region", "reset", "--json", "--sheet", sheets[2], "--sheet", sheets[0]}, more...)
	var rep node.ResetReport
	if err := json.Unmarshal([]byte(b.Must(args...)), &rep); err != nil {
		b.T.Fatal(err)
	}
	return rep
}

// Gone ends a box for good, disk and all.
func (b *Box) Gone() {
	b.T.Helper()
	b.Kill()
	if err := os.RemoveAll(b.Dir); err != nil {
		b.T.Fatal(err)
	}
}

// HoldsConfirmed waits until these records are in the regional record here.
func (b *Box) HoldsConfirmed(rids ...string) {
	b.T.Helper()
	for _, rid := range rids {
		b.Eventually(ConvergeMax, "a record to be confirmed at "+b.Name, func() string {
			s, err := b.RecordState(rid)
			switch {
			case err != nil:
				return err.Error()
			case s.State != "confirmed":
				return s.State
			}
			return ""
		})
	}
}

// FaultLike is "" when a box tells of a fault with these words.
func FaultLike(b *Box, words string) string {
	st, why := b.TryStatus()
	if why != "" {
		return why
	}
	for _, f := range st.Faults {
		if strings.Contains(f, words) {
			return ""
		}
	}
	return fmt.Sprintf("%s says %q", b.Name, st.Faults)
}

// NoEvidence: honest boxes never accuse one another.
func (r *Region) NoEvidence(boxes ...*Box) {
	r.T.Helper()
	for _, b := range boxes {
		if out := strings.TrimSpace(b.Must("evidence", "list", "--json")); out != "[]" {
			r.T.Errorf("%s holds evidence: %s", b.Name, out)
		}
	}
}

// Join lets a box join as a hub by the invitation of one hub and the word of others.
func (r *Region) Join(b *Box, by *Box, others ...*Box) {
	r.T.Helper()
	var inv node.Invited
	if err := json.Unmarshal([]byte(by.Must("region", "invite", "--role", b.Role, "--json")), &inv); err != nil {
		r.T.Fatal(err)
	}
	joined := make(chan Result, 1)
	go func() { joined <- b.Command("", "join", inv.Text) }()
	r.Approve(b, others...)
	if j := <-joined; j.Code != 0 {
		r.T.Fatalf("%s: joining: exit code %d\n%s%s", b.Name, j.Code, j.Out, j.Err)
	}
	b.Start()
}
