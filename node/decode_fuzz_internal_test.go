package node

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

// FuzzParseInvitation: an invitation reads in one way, however lines were broken
// when it was sent on.
func FuzzParseInvitation(f *testing.F) {
	i := invitation{V: 1, Region: make([]byte, 32), Hub: make([]byte, 32), Token: make([]byte, invitationTokenLen), Addresses: []string{"/ip4/10.0.0.1/tcp/4001"}}
	text, err := invitationText(i)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[:40] + "\r\n " + text[40:])
	f.Fuzz(func(t *testing.T, s string) {
		fuzz.Bounded(t, len(s), func() { parseInvitation(s) })
		i, err := parseInvitation(s)
		if err != nil {
			return
		}
		if again, err := invitationText(i); err != nil || again != strings.Join(strings.Fields(s), "") {
			t.Errorf("%q is read as %q, %v", s, again, err)
		}
	})
}

func invitationText(i invitation) (string, error) {
	b, err := record.Marshal(i)
	return invitationPrefix + base64.RawURLEncoding.EncodeToString(b), err
}

// FuzzJoin is whatever a stranger and a hub may say to each other: a stranger
// without an invitation gets words and nothing else, and answers have one form.
func FuzzJoin(f *testing.F) {
	n := openStandalone(f)
	if _, err := n.Found(f.Context(), "Test region"); err != nil {
		f.Fatal(err)
	}
	for _, v := range []any{joinRequest{Token: make([]byte, invitationTokenLen), Role: record.RoleClinic, Name: "A"}, joinResponse{Name: "R", Reason: "no"}, joinWaits{Missing: 1}, fieldKeys{}, staffEntry{Name: "A"}} {
		b, err := record.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() {
			raw, err := n.handleJoin(t.Context(), record.DeviceID{1}, b)
			var r joinResponse
			if err != nil || record.Unmarshal(raw, &r) != nil || r.Reason == "" || len(r.Keys) > 0 {
				t.Errorf("a stranger got %d keys, %v", len(r.Keys), err)
			}
		})
		var q joinRequest
		same(t, b, &q)
		var r joinResponse
		if record.Unmarshal(b, &r) == nil && r.Seed.Generation > 0 {
			same(t, b, &r)
		}
		var k fieldKeys
		same(t, b, &k)
		var e staffEntry
		same(t, b, &e)
		var w joinWaits
		same(t, b, &w)
	})
}

// same fails when bytes that read as a value are not how it is written.
func same(t *testing.T, b []byte, v any) {
	t.Helper()
	if record.Unmarshal(b, v) != nil {
		return
	}
	if again, err := record.Marshal(v); err != nil || !bytes.Equal(again, b) {
		t.Errorf("%x reads as what is %x, %v", b, again, err)
	}
}
