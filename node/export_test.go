package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// Store is the box's replica, for tests that bring about what peers and crashes do.
func (n *Node) Store() *store.Store { return n.store }

// FoundOnly writes the founding record and nothing after it, as a founder does
// that loses its power there.
func (n *Node) FoundOnly(ctx context.Context, name string) error {
	if err := n.newReadingKey(); err != nil {
		return err
	}
	body, err := record.Marshal(record.RegionFound{Name: name, Nonce: make([]byte, 16), Founder: n.selfMember()})
	if err != nil {
		return err
	}
	_, err = n.appendControl(ctx, record.KindRegionFound, body)
	return err
}

// Cosigner is a hub's cosigning without its loop and its raft.
type Cosigner struct{ *cosigner }

// NewCosigner starts with an empty memory, as after a crash.
func (n *Node) NewCosigner(leads bool) Cosigner {
	return Cosigner{newCosigner(n, n.ledgerID, func() bool { return leads }, func() bool { return true })}
}

// NewCosignerBehind is of a hub that has not applied its log yet until caughtUp.
func (n *Node) NewCosignerBehind(caughtUp func() bool) Cosigner {
	return Cosigner{newCosigner(n, n.ledgerID, func() bool { return true }, caughtUp)}
}

func (c Cosigner) Step() error                                     { return c.step() }
func (c Cosigner) Offered(from record.DeviceID, note []byte) error { return c.offered(from, note) }
func (c Cosigner) Note() []byte                                    { return c.note() }

// Streamed is how an answer that takes long, and its failure, reach a client.
func (n *Node) Streamed(ctx context.Context, result any, failure error, into any) error {
	srv := httptest.NewServer(n.streamed(func(context.Context, *http.Request, func(any)) (any, error) { return result, failure }))
	defer srv.Close()
	c := &Client{close: func() error { return nil }}
	c.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", srv.Listener.Addr().String())
	}}
	return errors.Join(c.stream(ctx, "/", nil, 0, func(Progress) {}, into), c.Close())
}

// FlushAccess puts the open access lines into a record now.
func (n *Node) FlushAccess(ctx context.Context) error { return n.flushAccess(ctx) }

// OpenLines are the actions of the access lines that are in no record yet, oldest first.
func (n *Node) OpenLines() ([]string, error) {
	_, lines, err := n.openLines(accessBatchLines)
	var out []string
	for _, plain := range lines {
		l, err := decodeLine(plain)
		if err != nil {
			return nil, err
		}
		look, err := n.lookWords(&lookRow{Action: l.Action})
		if err != nil {
			return nil, err
		}
		if look.Refused {
			look.What += " refused"
		}
		if len(l.Compartment) > 0 {
			look.What += " of a chart"
		}
		if l.Rules != "" {
			look.What += " by " + l.Rules
		}
		out = append(out, look.What)
	}
	return out, err
}

// WithRule runs boxes under the default rules and one more, until the test ends.
func WithRule(t testing.TB, rule string) {
	t.Helper()
	text, err := os.ReadFile("../seal/policy/default.cedar")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := policy.Compile(append(text, rule...))
	if err != nil {
		t.Fatal(err)
	}
	before := policy.Default
	t.Cleanup(func() { policy.Default = before })
	policy.Default = func() *policy.Rules { return rules }
}

// KeysAndRules is what opening a chart costs before it is read: its keys out of their wraps, and
// every question that its page asks the rules. With again, what was decided is read from the
// records, as after an update.
func (n *Node) KeysAndRules(token, patient string, again bool) error {
	in, err := n.staff.get(token, true)
	if err != nil {
		return err
	}
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		return err
	}
	n.vault.mu.Lock()
	clear(n.vault.known)
	n.vault.mu.Unlock()
	if _, err := n.vault.held(c); err != nil {
		return err
	}
	if again {
		if _, err := n.directives(c); err != nil {
			return err
		}
	}
	if _, err := n.sight(in, c, fhir.AllTopics, policy.Treatment); err != nil {
		return err
	}
	for _, a := range []policy.Action{policy.Identify, policy.View, policy.View, policy.View, policy.Give} {
		if !n.decide(in, a, patient).Allowed {
			return web.ErrRefused
		}
	}
	return nil
}

// PublishUnread votes for rules as a release with another language would.
func (n *Node) PublishUnread(ctx context.Context, text string) error {
	_, err := n.vote(ctx, &ProposalInfo{Action: actionRules, kind: record.KindRules, body: []byte(text)})
	return err
}

// EscrowKeyID is the id of the escrow that new keys are wrapped to, "" for none.
func (n *Node) EscrowKeyID() string {
	key, err := n.escrowKey()
	if err != nil || key == nil {
		return ""
	}
	return seal.PublicKeyID(key).String()
}

// StrangersMayKnock reports whether the gate lets a stranger in to join.
func (n *Node) StrangersMayKnock() bool { return n.openInvitations() }
