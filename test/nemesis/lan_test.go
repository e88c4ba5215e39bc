package nemesis_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/healthpost/healthpost/test/link"
	"github.com/healthpost/healthpost/test/nemesis"
)

// lan is a switch in a network namespace, with boxes in namespaces of their own
// plugged into it.
type lan struct {
	t      testing.TB
	middle *link.Space
	places []*link.Space
}

const (
	boxPort  = 4001
	pagePort = 8080
)

// newLAN makes a network with room for n boxes. It goes away with the test, after
// the processes in it.
func newLAN(t testing.TB, n int) *lan {
	t.Helper()
	l := &lan{t: t, middle: newSpace(t)}
	l.ip(l.middle, "link add switch type bridge")
	l.ip(l.middle, "link set switch up")
	for i := range n {
		s := newSpace(t)
		l.places = append(l.places, s)
		var thread int
		check(t, "finding a namespace", s.Do(func() error { thread = unix.Gettid(); return nil }))
		l.ip(l.middle, fmt.Sprintf("link add port%d type veth peer name net0 netns %d", i, thread))
		l.ip(l.middle, fmt.Sprintf("link set port%d master switch up", i))
		l.ip(s, fmt.Sprintf("addr add %s/24 dev net0", l.address(i)))
		l.ip(s, "link set net0 up")
	}
	return l
}

func newSpace(t testing.TB) *link.Space {
	t.Helper()
	s, err := link.NewSpace()
	check(t, "making a network (root is needed)", err)
	t.Cleanup(s.Close)
	return s
}

func check(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func (l *lan) ip(s *link.Space, args string) {
	l.t.Helper()
	check(l.t, "making the network", s.IP(args))
}

func (l *lan) address(i int) string { return fmt.Sprintf("10.78.0.%d", i+1) }

func (l *lan) listen(i int) string { return fmt.Sprintf("/ip4/%s/tcp/%d", l.address(i), boxPort) }

// slowRate is what a way that is to be slow carries.
const slowRate = "96kbit"

// set makes the network among the boxes: each drops or resets what comes to it, and
// is slow in what it sends.
func (l *lan) set(w nemesis.Ways) error {
	for to, place := range l.places {
		rules := "flush ruleset\ntable inet nemesis {\n chain in {\n  type filter hook input priority 0;\n"
		slow := false
		for from := range l.places {
			switch x := w[from][to]; {
			case x.Refused:
				rules += fmt.Sprintf("  ip saddr %s meta l4proto tcp reject with tcp reset\n  ip saddr %s drop\n", l.address(from), l.address(from))
			case x.Dropped:
				rules += fmt.Sprintf("  ip saddr %s drop\n", l.address(from))
			}
			slow = slow || w[to][from].Delay > 0
		}
		rules += " }\n}\n"
		if err := l.run(place, rules, "nft", "-f", "-"); err != nil {
			return err
		}
		shape := []string{"tc", "qdisc", "replace", "dev", "net0", "root", "pfifo"}
		if slow {
			shape = []string{"tc", "qdisc", "replace", "dev", "net0", "root", "tbf", "rate", slowRate, "burst", "4k", "latency", "800ms"}
		}
		if err := l.run(place, "", shape...); err != nil {
			return err
		}
	}
	return nil
}

func (l *lan) run(s *link.Space, in string, args ...string) error {
	return s.Do(func() error {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = strings.NewReader(in)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	})
}
