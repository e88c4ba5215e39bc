package seal_test

import (
	"testing"

	"github.com/healthpost/healthpost/seal"
)

// escrowVector is an escrow whose parts are Random, 16 bytes each.
type escrowVector struct {
	Need      int      `json:"need"`
	Of        int      `json:"of"`
	Random    hexBytes `json:"random"`
	Public    hexBytes `json:"public"`
	Verifier  hexBytes `json:"verifier"`
	Claim     hexBytes `json:"claim"`
	Signature hexBytes `json:"signature"`
	Sheets    []string `json:"sheets"`
}

func escrowAnswers(t *testing.T) (all []escrowVector) {
	for i, x := range []struct{ need, of, parts int }{{2, 3, 3}, {3, 5, 10}} {
		public, shares, err := seal.NewEscrow(reproducible(byte(80+i)), x.need, x.of)
		if err != nil {
			t.Fatal(err)
		}
		key, err := seal.OpenEscrow(shares[1:])
		if err != nil {
			t.Fatal(err)
		}
		claim := []byte("a claim")
		v := escrowVector{Need: x.need, Of: x.of, Random: random(byte(80+i), 16*x.parts), Public: public.Exchange.Bytes(), Verifier: hexBytes(public.Verifier), Claim: claim, Signature: key.Sign(claim)}
		for i := range shares {
			v.Sheets = append(v.Sheets, shares[i].Text())
		}
		all = append(all, v)
	}
	return all
}
