package record_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/healthpost/healthpost/record"
)

func soundBodies() (record.EpochOpen, record.MemberAdd, record.MemberRevoke, record.RegionFound, record.SessionOpen) {
	b := newBox("clinic one")
	b.open()
	member := b.member(record.RoleClinic)
	member.Addresses = []string{"/ip4/10.1.2.3/tcp/4001", "/dns4/hub.example.org/tcp/4001"}
	return b.openBody(), member, record.MemberRevoke{Device: b.id[:], Reason: "stolen"},
		record.RegionFound{Name: "Región del río", Nonce: make([]byte, 16), Founder: member},
		claim(b, record.Position{Epoch: b.epoch, N: 1}, staffKey("nurse"))
}

func decode[T any](f func([]byte) (T, error)) func([]byte) (any, error) {
	return func(b []byte) (any, error) { return f(b) }
}

// decoders are all readers of control bodies, by what they read.
var decoders = map[string]func([]byte) (any, error){
	"opening":  decode(record.DecodeEpochOpen),
	"member":   decode(record.DecodeMemberAdd),
	"revoke":   decode(record.DecodeMemberRevoke),
	"founding": decode(record.DecodeRegionFound),
	"session":  decode(record.DecodeSessionOpen),
	"attest":   decode(record.DecodeAttest),
	"recovery": decode(record.DecodeRecovery),
	"reset":    decode(record.DecodeReset),
	"escrow":   decode(record.DecodeEscrow),
	"use":      decode(record.DecodeEscrowUse),
	"inviter":  decode(record.DecodeInviter),
	"invite":   decode(record.DecodeInvite),
}

// laterBodies are sound bodies of the other readable kinds.
func laterBodies() map[string]any {
	hub := newBox("hub one").member(record.RoleHub)
	hub.Addresses = []string{"/ip4/10.1.2.3/tcp/4001"}
	sig := make([]byte, 64)
	return map[string]any{
		"attest":   record.Attest{Size: 7, Root: make([]byte, 32)},
		"recovery": record.Recovery{Needed: 1, Keys: [][]byte{make([]byte, 32)}},
		"escrow":   record.Escrow{V: 1, Public: make([]byte, 32), Verifier: make([]byte, 32), Need: 3, Of: 5},
		"use":      record.EscrowUse{V: 1, Verifier: make([]byte, 32), Compartment: make([]byte, 16), Directive: make([]byte, 16), Until: 7, Signature: sig},
		"inviter":  record.Inviter{V: 1, Device: make([]byte, 32), May: true},
		"invite":   record.Invite{V: 1, Hash: make([]byte, 16), Hub: make([]byte, 32), Role: record.RoleField},
		"reset": record.Reset{Generation: 2, Size: 7, Root: make([]byte, 32), Members: []record.MemberAdd{hub},
			Signatures: []record.ResetSignature{{Key: 0, Sig: sig}, {Key: 15, Sig: sig}}},
	}
}

// The blank field that carries the array tag is no part of a value.
var unexportedIgnored = cmpopts.IgnoreUnexported(record.EpochOpen{}, record.MemberAdd{}, record.MemberRevoke{}, record.RegionFound{}, record.SessionOpen{},
	record.Attest{}, record.Recovery{}, record.Reset{}, record.ResetSignature{}, record.Escrow{}, record.EscrowUse{}, record.Inviter{}, record.Invite{})

func TestControlRoundTrip(t *testing.T) {
	open, add, revoke, found, session := soundBodies()
	bodies := map[string]any{"opening": open, "member": add, "revoke": revoke, "founding": found, "session": session}
	maps.Copy(bodies, laterBodies())
	for name, want := range bodies {
		b := mustMarshal(want)
		got, err := decoders[name](b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), unexportedIgnored); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		for other, read := range decoders {
			if _, err := read(b); other != name && !errors.Is(err, record.ErrMalformed) {
				t.Errorf("%s read as %s: got %v, want ErrMalformed", name, other, err)
			}
		}
		for n := range b {
			if _, err := decoders[name](b[:n]); !errors.Is(err, record.ErrMalformed) {
				t.Errorf("%s, first %d bytes: got %v, want ErrMalformed", name, n, err)
			}
		}
	}
}

func TestControlRules(t *testing.T) {
	change := func(f func(*record.EpochOpen, *record.MemberAdd, *record.MemberRevoke, *record.RegionFound, *record.SessionOpen)) map[string]any {
		o, a, r, g, s := soundBodies()
		f(&o, &a, &r, &g, &s)
		return map[string]any{"opening": o, "member": a, "revoke": r, "founding": g, "session": s}
	}
	type (
		O = *record.EpochOpen
		A = *record.MemberAdd
		R = *record.MemberRevoke
		G = *record.RegionFound
		S = *record.SessionOpen
	)
	bytesOf := func(n int) []byte { return make([]byte, n) }
	for _, c := range []struct {
		name, of string
		f        func(O, A, R, G, S)
	}{
		{"short device", "opening", func(o O, _ A, _ R, _ G, _ S) { o.Device = bytesOf(31) }},
		{"no nonce", "opening", func(o O, _ A, _ R, _ G, _ S) { o.Nonce = nil }},
		{"long hardware", "opening", func(o O, _ A, _ R, _ G, _ S) { o.Hardware = bytesOf(33) }},
		{"short root", "opening", func(o O, _ A, _ R, _ G, _ S) { o.Root = bytesOf(16) }},
		{"heads without a predecessor", "opening", func(o O, _ A, _ R, _ G, _ S) { o.Predecessor = nil }},
		{"a predecessor without heads", "opening", func(o O, _ A, _ R, _ G, _ S) { o.Heads = nil }},
		{"five heads", "opening", func(o O, _ A, _ R, _ G, _ S) { o.Heads = make([]uint64, 5) }},
		{"a short predecessor", "opening", func(o O, _ A, _ R, _ G, _ S) { o.Predecessor = bytesOf(15) }},
		{"long software", "opening", func(o O, _ A, _ R, _ G, _ S) { o.Software = strings.Repeat("x", 65) }},
		{"short device", "member", func(_ O, a A, _ R, _ G, _ S) { a.Device = bytesOf(31) }},
		{"no encryption key", "member", func(_ O, a A, _ R, _ G, _ S) { a.Encryption = nil }},
		{"no name", "member", func(_ O, a A, _ R, _ G, _ S) { a.Name = "" }},
		{"long name", "member", func(_ O, a A, _ R, _ G, _ S) { a.Name = strings.Repeat("é", 61) }},
		{"no role", "member", func(_ O, a A, _ R, _ G, _ S) { a.Role = "" }},
		{"another role", "member", func(_ O, a A, _ R, _ G, _ S) { a.Role = "HUB" }},
		{"many addresses", "member", func(_ O, a A, _ R, _ G, _ S) { a.Addresses = make([]string, 17) }},
		{"a long address", "member", func(_ O, a A, _ R, _ G, _ S) { a.Addresses[1] = strings.Repeat("x", 257) }},
		{"short device", "revoke", func(_ O, _ A, r R, _ G, _ S) { r.Device = bytesOf(31) }},
		{"long reason", "revoke", func(_ O, _ A, r R, _ G, _ S) { r.Reason = strings.Repeat("x", 501) }},
		{"long region name", "founding", func(_ O, _ A, _ R, g G, _ S) { g.Name = strings.Repeat("x", 121) }},
		{"short nonce", "founding", func(_ O, _ A, _ R, g G, _ S) { g.Nonce = bytesOf(15) }},
		{"founder without a name", "founding", func(_ O, _ A, _ R, g G, _ S) { g.Founder.Name = "" }},
		{"a line end in a name", "member", func(_ O, a A, _ R, _ G, _ S) { a.Name = "x\ny" }},
		{"an escape in a name", "member", func(_ O, a A, _ R, _ G, _ S) { a.Name = "x\x1b[2J" }},
		{"a delete in a name", "member", func(_ O, a A, _ R, _ G, _ S) { a.Name = "x\x7f" }},
		{"a C1 control in a name", "member", func(_ O, a A, _ R, _ G, _ S) { a.Name = "x\u0085" }},
		{"a name turned round", "member", func(_ O, a A, _ R, _ G, _ S) { a.Name = "hub \u202eeno" }},
		{"a name isolated", "member", func(_ O, a A, _ R, _ G, _ S) { a.Name = "\u2067hub" }},
		{"a line separator in a reason", "revoke", func(_ O, _ A, r R, _ G, _ S) { r.Reason = "stolen\u2028again" }},
		{"a tab in an address", "member", func(_ O, a A, _ R, _ G, _ S) { a.Addresses[0] = "/ip4/10.0.0.1\t" }},
		{"a zero in a region's name", "founding", func(_ O, _ A, _ R, g G, _ S) { g.Name = "x\x00" }},
		{"a bell in the software", "opening", func(o O, _ A, _ R, _ G, _ S) { o.Software = "\a" }},
		{"short staff key", "session", func(_ O, _ A, _ R, _ G, s S) { s.Staff = bytesOf(31) }},
		{"short claim", "session", func(_ O, _ A, _ R, _ G, s S) { s.Claim = bytesOf(63) }},
		{"more than 8 KiB", "revoke", func(_ O, _ A, r R, _ G, _ S) { r.Reason = strings.Repeat("x", 9<<10) }},
	} {
		t.Run(c.of+"/"+c.name, func(t *testing.T) {
			if _, err := decoders[c.of](mustMarshal(change(c.f)[c.of])); !errors.Is(err, record.ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
		})
	}
}

// Names of every script pass, with the marks that some of them need.
func TestNamesOfAllScripts(t *testing.T) {
	for _, name := range []string{"Région du fleuve", "Здравпункт", "مرکز\u200cبهداشت", "\u200fמרפאה", "स्वास्थ्य\u200dकेन्द्र", "保健所", "👩\u200d⚕️"} {
		m := newBox("x").member(record.RoleClinic)
		m.Name = name
		if _, err := record.DecodeMemberAdd(mustMarshal(m)); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestRoles(t *testing.T) {
	for role, want := range map[record.Role]bool{record.RoleHub: true, record.RoleStandalone: true, record.RoleClinic: false, record.RoleField: false, "": false} {
		if role.Orders() != want {
			t.Errorf("%q: got orders %v, want %v", role, role.Orders(), want)
		}
	}
}

// The claim names place and device, so it holds nowhere else.
func TestSessionClaim(t *testing.T) {
	pos := record.Position{Epoch: record.EpochID{1}, Lane: 0, N: 0x0203}
	want := append([]byte("hp:session:1\x00"), make([]byte, 16+1+8+32)...)
	want[13], want[13+16+1+6], want[13+16+1+7], want[13+16+1+8] = 1, 2, 3, 9
	if got := record.SessionClaim(pos, record.DeviceID{9}); string(got) != string(want) {
		t.Errorf("got %x, want %x", got, want)
	}
}
