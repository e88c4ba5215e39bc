package store_test

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// The test binary starts itself as a child in these roles.
const roleEnv = "HEALTHPOST_STORE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "writer":
		childWriter(os.Args[1], os.Args[2])
	case "full":
		childFull(os.Args[1])
	case "taken":
		childTaken(os.Args[1], os.Args[2])
	case "again":
		childAgain(os.Args[1], os.Args[2])
	case "cut":
		childCut(os.Args[1], os.Args[2])
	}
}

// fatal is a testing.TB for children: what fails ends the process.
type fatal struct{ testing.TB }

func (fatal) Helper()                   {}
func (fatal) Cleanup(func())            {}
func (fatal) Logf(string, ...any)       {}
func (fatal) Log(...any)                {}
func (fatal) Errorf(f string, a ...any) { fmt.Printf("FAIL "+f+"\n", a...); os.Exit(3) }
func (fatal) Error(a ...any)            { fmt.Println(append([]any{"FAIL"}, a...)...); os.Exit(3) }
func (fatal) Fatalf(f string, a ...any) { fmt.Printf("FAIL "+f+"\n", a...); os.Exit(3) }
func (fatal) Fatal(a ...any)            { fmt.Println(append([]any{"FAIL"}, a...)...); os.Exit(3) }

// childBox opens a standalone box in a directory and founds it once.
func childBox(dir string) *box {
	b := &box{t: fatal{}, dir: dir, o: options(), a: author(1), role: record.RoleStandalone, wall: uint64(time.Now().UnixMilli())}
	b.open()
	index, _, _ := b.s.Applied()
	b.raft = index
	if b.s.Head().Size == 0 {
		b.found()
	} else {
		b.beginEpoch()
	}
	return b
}

// childWriter saves and orders until it is killed, and prints the id of each
// record after it was acknowledged.
func childWriter(dir, seed string) {
	n, _ := strconv.ParseUint(seed, 10, 64)
	r := rand.New(rand.NewPCG(n, 3))
	b := childBox(dir)
	fmt.Println("ready")
	for i := 0; ; i++ {
		recs := b.append(visit(byte(i), 200+r.IntN(3000), r))
		fmt.Println(recs[0].RID())
		if i%5 == 4 {
			if err := orderAll(b); err != nil {
				fatal{}.Fatal(err)
			}
		}
	}
}

func child(role string, args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), roleEnv+"="+role)
	c.Stderr = os.Stderr
	return c
}

// TestKilledWriter kills a writer at random moments and opens the store again:
// every record whose id was printed is there.
func TestKilledWriter(t *testing.T) {
	r := rng(t)
	dir := t.TempDir()
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	var acked []record.RID
	for round := range rounds {
		c := child("writer", dir, strconv.FormatUint(r.Uint64(), 10))
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		lives, n := 1+r.IntN(120), 0
		after := time.Duration(r.IntN(3000)) * time.Microsecond
		for lines.Scan() {
			rid, err := record.ParseRID(lines.Text())
			if err == nil {
				acked = append(acked, rid)
				n++
			} else if lines.Text() != "ready" {
				t.Fatalf("round %d: child says %q", round, lines.Text())
			}
			if n == lives {
				time.AfterFunc(after, func() { c.Process.Kill() })
			}
		}
		c.Wait()
		s, err := store.Open(dir, options())
		if err != nil {
			t.Fatalf("round %d after %d records: %v", round, n, err)
		}
		checkRIDs(t, s, acked, fmt.Sprintf("round %d", round))
		if round%5 == 0 || round == rounds-1 {
			check(t, s)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d records acknowledged in %d rounds, none lost", len(acked), rounds)
}

func checkRIDs(t *testing.T, s *store.Store, acked []record.RID, when string) {
	t.Helper()
	for i, rid := range acked {
		r, ok, err := s.ByRID(rid)
		if err != nil || !ok || r.RID() != rid || r.VerifyBody() != nil {
			t.Fatalf("%s: acknowledged record %d of %d, %s, is lost: found %v, %v", when, i+1, len(acked), rid.Short(), ok, err)
		}
	}
}

// mounted runs a child inside its own mount namespace with a fresh ext4 of a size
// mounted at the directory that it gets as its first argument.
func mounted(t *testing.T, image, at, options, role string, args ...string) (string, error) {
	t.Helper()
	script := fmt.Sprintf("mount -o loop,%s %q %q && exec %q %s", options, image, at, os.Args[0], shellQuote(append([]string{at}, args...)))
	c := exec.Command("unshare", "-m", "sh", "-c", script)
	c.Env = append(os.Environ(), roleEnv+"="+role)
	out, err := c.CombinedOutput()
	return string(out), err
}

func shellQuote(args []string) string {
	for i, a := range args {
		args[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(args, " ")
}

// image makes an ext4 image. A machine where it cannot be mounted fails the test.
func image(t *testing.T, size string) (path, at string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a small disk: run it as root")
	}
	dir := t.TempDir()
	path, at = filepath.Join(dir, "disk.img"), filepath.Join(dir, "disk")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{{"truncate", "-s", size, path}, {"mkfs.ext4", "-qF", "-m", "0", path}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", c[0], err, out)
		}
	}
	if out, err := exec.Command("unshare", "-m", "mount", "-o", "loop", path, at).CombinedOutput(); err != nil {
		t.Fatalf("mounting is not allowed here: %v: %s", err, out)
	}
	return path, at
}

// TestFullDisk fills a small disk: saves end with ErrFull and never with a signal,
// reads go on, and the store opens again while the disk is full.
func TestFullDisk(t *testing.T) {
	img, at := image(t, "160M")
	out, err := mounted(t, img, at, "noatime", "full")
	if err != nil || !strings.Contains(out, "done") {
		t.Fatalf("%v:\n%s", err, out)
	}
	t.Log(strings.TrimSpace(out))
}

func childFull(dir string) {
	b := childBox(filepath.Join(dir, "db"))
	b.o.FreeBytesMin, b.o.BallastBytes = 24<<20, 32<<20
	b.close()
	b.open()
	b.beginEpoch()
	r := rand.New(rand.NewPCG(1, 1))
	var acked []record.Record
	for i := 0; ; i++ {
		recs, err := b.s.Append(ctx, []store.Draft{visit(byte(i), 20_000, r)}, nil)
		if errors.Is(err, store.ErrFull) {
			break
		}
		if err != nil {
			fatal{}.Fatal(err)
		}
		acked = append(acked, recs...)
		if i > 20_000 {
			fatal{}.Fatal("the disk does not fill")
		}
	}
	if err := b.s.Err(); err != nil || !b.s.Full() {
		fatal{}.Fatalf("after the disk was full: fault %v, full %v", err, b.s.Full())
	}
	checkAcked(fatal{}, b.s, acked, "while full")
	// The tables are at rest; then others fill the rest to the last byte.
	waitQuiet(filepath.Join(dir, "db", "index"))
	other := takeRest(dir)
	if _, err := b.s.Append(ctx, []store.Draft{visit(1, 100, r)}, nil); !errors.Is(err, store.ErrFull) {
		fatal{}.Fatalf("a save on a disk with no byte left gave %v", err)
	}
	checkAcked(fatal{}, b.s, acked, "no byte left")
	notes := putReserved(b, 100)
	if notes < 100 {
		fatal{}.Fatalf("%d rows found room that was set aside, want 100", notes)
	}
	if err := b.s.Close(); err != nil {
		fatal{}.Fatalf("closing on a full disk: %v", err)
	}
	b.open()
	checkAcked(fatal{}, b.s, acked, "opened while full")
	heldReserved(b, notes)
	if err := os.Remove(other); err != nil {
		fatal{}.Fatal(err)
	}
	b.o.FreeBytesMin = 1 << 20
	b.s.Close()
	b.open()
	b.beginEpoch()
	b.append(visit(1, 100, r))
	b.close()
	fmt.Printf("done: %d records before the disk was full\n", len(acked))
}

// putReserved writes small rows into the reserve until it is used up, at most n.
func putReserved(b *box, n int) int {
	for i := range n {
		switch err := b.s.PutRowsReserved(ctx, []store.Row{{Key: fmt.Appendf(nil, "look %d", i), Value: make([]byte, 200)}}); {
		case errors.Is(err, store.ErrFull):
			return i
		case err != nil:
			b.t.Fatal(err)
		}
	}
	return n
}

func heldReserved(b *box, n int) {
	for i := range n {
		if _, err := b.s.GetRow(fmt.Appendf(nil, "look %d", i)); err != nil {
			b.t.Fatalf("row %d of %d: %v", i, n, err)
		}
	}
}

// takeRest writes a file until the disk has no byte left.
func takeRest(dir string) string {
	f, err := os.OpenFile(filepath.Join(dir, "other"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		fatal{}.Fatal(err)
	}
	defer f.Close()
	for block := 1 << 20; block >= 512; {
		if _, err := f.Write(make([]byte, block)); err != nil {
			block /= 2
		}
	}
	return f.Name()
}

// TestLastBytesTaken fills a small disk; right after the first refused save
// another program takes every byte that is left, and again after each start. The
// store never dies by a signal, and nothing that was acknowledged is lost.
func TestLastBytesTaken(t *testing.T) {
	rounds := 2
	if os.Getenv("HEALTHPOST_TEST_OPS") == "all" {
		rounds = 5
	}
	for round := range rounds {
		img, at := image(t, "224M")
		ack := filepath.Join(t.TempDir(), "acked")
		for _, role := range []string{"taken", "again"} {
			out, err := mounted(t, img, at, "noatime", role, ack)
			var exit *exec.ExitError
			killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
			if role == "taken" && !killed || role == "again" && err != nil || !strings.Contains(out, "done") {
				t.Fatalf("round %d, %s: %v:\n%.6000s", round, role, err, out)
			}
			t.Logf("round %d: %s", round, strings.TrimSpace(out))
		}
	}
}

// tightBox is a box that keeps 24 MiB free and a ballast of 32 MiB.
func tightBox(dir string) *box {
	b := &box{t: fatal{}, dir: filepath.Join(dir, "db"), o: options(), a: author(1), role: record.RoleStandalone, wall: uint64(time.Now().UnixMilli())}
	b.o.FreeBytesMin, b.o.BallastBytes = 24<<20, 32<<20
	return b
}

// childTaken is killed at the end, as by a power cut.
func childTaken(dir, ack string) {
	b := tightBox(dir)
	b.open()
	b.found()
	r := rand.New(rand.NewPCG(1, 1))
	var acked []record.Record
	for i := 0; ; i++ {
		recs, err := b.s.Append(ctx, []store.Draft{visit(byte(i), 20_000, r)}, nil)
		if errors.Is(err, store.ErrFull) {
			break
		}
		if err != nil || i > 20_000 {
			fatal{}.Fatalf("save %d: %v", i, err)
		}
		acked = append(acked, recs...)
	}
	takeRest(dir)
	checkAcked(fatal{}, b.s, acked, "no byte left")
	if _, err := b.s.Append(ctx, []store.Draft{visit(1, 100, r)}, nil); !errors.Is(err, store.ErrFull) {
		fatal{}.Fatalf("a save on a disk with no byte left gave %v", err)
	}
	time.Sleep(time.Second) // what runs in the background must not die either
	if err := b.s.Err(); err != nil {
		fatal{}.Fatal(err)
	}
	var list strings.Builder
	for i := range acked {
		fmt.Fprintln(&list, hex.EncodeToString(rid(&acked[i])))
	}
	if err := os.WriteFile(ack, []byte(list.String()), 0o600); err != nil {
		fatal{}.Fatal(err)
	}
	fmt.Printf("done: %d records before the disk was full\n", len(acked))
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

func rid(r *record.Record) []byte { id := r.RID(); return id[:] }

// childAgain opens the full store, has the room that the ballast gave taken too,
// and opens it again, with and at last without ErrFull.
func childAgain(dir, ack string) {
	raw, err := os.ReadFile(ack)
	if err != nil {
		fatal{}.Fatal(err)
	}
	var acked []record.RID
	for _, line := range strings.Fields(string(raw)) {
		id, err := hex.DecodeString(line)
		if err != nil || len(id) != 32 {
			fatal{}.Fatalf("list says %q", line)
		}
		acked = append(acked, record.RID(id))
	}
	held := func(b *box, when string) {
		for i, id := range acked {
			if _, ok, err := b.s.ByRID(id); err != nil || !ok {
				fatal{}.Fatalf("%s: record %d of %d: found %v, %v", when, i, len(acked), ok, err)
			}
		}
	}
	b := tightBox(dir)
	b.open()
	held(b, "opened with the ballast's room")
	other := takeRest(dir)
	held(b, "no byte left")
	if err := b.s.Close(); err != nil {
		fatal{}.Fatalf("closing with no byte left: %v", err)
	}
	s, err := store.Open(b.dir, b.o)
	refused := errors.Is(err, store.ErrFull)
	if err == nil {
		b.s = s
		held(b, "opened with no byte left")
		b.s.Close()
	} else if !refused {
		fatal{}.Fatalf("opening with no byte left: %v", err)
	}
	if err := os.Remove(other); err != nil {
		fatal{}.Fatal(err)
	}
	b.o.FreeBytesMin, b.o.BallastBytes = 1<<20, 0
	b.open()
	held(b, "opened with room")
	if rep, err := b.s.Verify(ctx, store.VerifyOptions{}, nil); err != nil || len(rep.Damage) != 0 {
		fatal{}.Fatalf("verify: %v, %v", rep.Damage, err)
	}
	b.beginEpoch()
	b.append(visit(1, 100, rand.New(rand.NewPCG(2, 2))))
	b.close()
	fmt.Printf("done: %d records held; opening with no byte left was refused: %v\n", len(acked), refused)
}

// TestUnlistedTable leaves a table behind as it is when a process dies while it
// writes it: the manifest does not name it and the store opens.
func TestUnlistedTable(t *testing.T) {
	b := newBox(t, 1, record.RoleStandalone)
	b.found()
	acked := b.append(visit(1, 5000, rng(t)))
	b.close()
	path := filepath.Join(b.dir, "index", "000099.sst")
	if err := os.WriteFile(path, make([]byte, 40_000), 0o600); err != nil {
		t.Fatal(err)
	}
	b.open()
	checkAcked(t, b.s, acked, "with a cut table")
	check(t, b.s)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cut table is still there: %v", err)
	}
}

// TestVerifyWhileCompacting verifies a store again and again while saves make its
// tables come and go.
func TestVerifyWhileCompacting(t *testing.T) {
	b := newBox(t, 1, record.RoleStandalone)
	b.found()
	r := rng(t)
	done := make(chan error, 1)
	go func() {
		for i := range 2500 {
			if _, err := b.s.Append(ctx, []store.Draft{visit(byte(i), 20_000, r)}, nil); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for n := 0; ; n++ {
		select {
		case err := <-done:
			t.Logf("verified %d times", n)
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
		if rep, err := b.s.Verify(ctx, store.VerifyOptions{}, nil); err != nil || len(rep.Damage) != 0 {
			t.Errorf("verify %d: %v, %v", n, rep.Damage, err)
		}
	}
}

// waitQuiet returns when no compaction has changed the tables for a second.
func waitQuiet(index string) {
	last := ""
	for still := 0; still < 10; still++ {
		names, _ := filepath.Glob(filepath.Join(index, "*.sst"))
		if now := strings.Join(names, " "); now != last {
			still, last = 0, now
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestPowerCut cuts the power of a file system under a writer (ext4 shutdown
// without flushing its log), mounts it again and opens the store.
func TestPowerCut(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	r := rng(t)
	img, at := image(t, "256M")
	ack := filepath.Join(t.TempDir(), "acked")
	total := 0
	for round := range rounds {
		out, err := mounted(t, img, at, "noatime", "cut", ack, strconv.FormatUint(r.Uint64(), 10))
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() == 3 || exit.ExitCode() == 2 {
			t.Fatalf("round %d: %v\n%s", round, err, out)
		}
		b, err := os.ReadFile(ack)
		if err != nil {
			t.Fatal(err)
		}
		total = strings.Count(string(b), "\n")
	}
	if total < rounds {
		t.Errorf("%d records in %d rounds: the test shows little", total, rounds)
	}
	t.Logf("%d records acknowledged over %d cuts, none lost", total, rounds)
}

// childCut checks what earlier rounds acknowledged, writes with several savers and
// cuts the power after a while. The list of acknowledged records is on another
// disk and is closed before the cut.
func childCut(dir, ack string) {
	seed, _ := strconv.ParseUint(os.Args[3], 10, 64)
	r := rand.New(rand.NewPCG(seed, 5))
	f, err := os.OpenFile(ack, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		fatal{}.Fatal(err)
	}
	b := childBox(filepath.Join(dir, "db"))
	for lines := bufio.NewScanner(f); lines.Scan(); {
		raw, err := hex.DecodeString(lines.Text())
		if err != nil || len(raw) != 32 {
			fatal{}.Fatalf("list says %q", lines.Text())
		}
		if _, ok, err := b.s.ByRID(record.RID(raw)); err != nil || !ok {
			fatal{}.Fatalf("acknowledged record %s is lost: %v", lines.Text()[:12], err)
		}
	}
	acked := make(chan record.RID)
	for w := range 4 {
		wr := rand.New(rand.NewPCG(seed, uint64(10+w)))
		go func() {
			for i := 0; ; i++ {
				recs, err := b.s.Append(ctx, []store.Draft{visit(byte(w), 100+wr.IntN(4000), wr)}, nil)
				if err != nil {
					return
				}
				acked <- recs[0].RID()
			}
		}()
	}
	for n := 1 + r.IntN(300); n > 0; n-- {
		rid := <-acked
		fmt.Fprintln(f, rid)
		if n%50 == 0 {
			if err := orderAll(b); err != nil {
				fatal{}.Fatal(err)
			}
		}
	}
	f.Close()
	d, err := os.Open(dir)
	if err != nil {
		fatal{}.Fatal(err)
	}
	const shutdownIoctl, withoutLogFlush = 0x8004587d, 2
	flags := uint32(withoutLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, d.Fd(), shutdownIoctl, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		fatal{}.Fatalf("cutting the power: %v", errno)
	}
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
}
