package bench_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/test/rig"
)

const (
	startMax    = time.Minute
	convergeMax = 20 * time.Minute
)

// box is a process that is measured.
type box struct {
	*rig.Box
	links []*rig.Link // of a clinic: one to each hub
}

func newBox(tb testing.TB, name, role string) *box {
	tb.Helper()
	return &box{Box: rig.NewBox(tb, name, role)}
}

// stopped ends the process as a shutdown would and gives the time that took.
func (b *box) stopped() time.Duration {
	b.T.Helper()
	begun := time.Now()
	b.Stop()
	return time.Since(begun)
}

func (b *box) verify() node.VerifyReport {
	b.T.Helper()
	var rep node.VerifyReport
	check(b.T, "reading the report", json.Unmarshal([]byte(b.Must("verify", "--full", "--json")), &rep))
	return rep
}

// proc reads a field of a file of the process, in the file's own unit.
func (b *box) proc(file, field string) int64 {
	b.T.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", b.PID(), file))
	check(b.T, "reading the process", err)
	for _, line := range strings.Split(string(raw), "\n") {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			check(b.T, "reading the process", err)
			return n
		}
	}
	b.T.Fatalf("%s: no %s", file, field)
	return 0
}

// cpu is what the process used of a core so far.
func (b *box) cpu() time.Duration {
	b.T.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.PID()))
	check(b.T, "reading the process", err)
	_, rest, _ := strings.Cut(string(raw), ") ")
	f := strings.Fields(rest)
	user, err := strconv.ParseInt(f[11], 10, 64)
	check(b.T, "reading the process", err)
	system, err := strconv.ParseInt(f[12], 10, 64)
	check(b.T, "reading the process", err)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on Linux
}

// dirBytes is what a folder takes on the disk: blocks, not lengths.
func dirBytes(tb testing.TB, dir string) int64 {
	tb.Helper()
	var total int64
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() {
			total += st.Blocks * 512
		}
		return nil
	})
	check(tb, "measuring "+dir, err)
	return total
}
