package node

import (
	"cmp"
	"context"
	"crypto/ecdh"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

// A region may have an escrow: a key that lies on no box, to which the keys of charts are wrapped
// besides those who may open them. Sheets on paper, some of them together, give its private
// half when the boxes are lost that could read. The hubs vote for the public half.

// escrowID is what people compare: on sheets, in lists, in votes.
func escrowID(public []byte) string {
	key, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return ""
	}
	return seal.PublicKeyID(key).String()
}

// escrowKey is the key of the escrow in force; nil where the region has none, or one that nothing can
// be sealed to.
func (n *Node) escrowKey() (*ecdh.PublicKey, error) {
	list, err := record.EscrowsOf(n.store.State())
	if err != nil || len(list) == 0 {
		return nil, err
	}
	key, err := ecdh.X25519().NewPublicKey(list[len(list)-1].Public)
	if err == nil {
		_, err = seal.SealTo(key, nil, nil)
	}
	if err != nil {
		n.log.Error().Err(err).Msg("nothing can be sealed to the escrow of the region: it is as good as none")
		return nil, nil
	}
	return key, nil
}

// Escrows are the escrows of a region, that in force last.
type Escrows struct {
	List []EscrowInfo   `json:"list"`
	Open []ProposalInfo `json:"open"` // what hubs voted for and too few so far
	Used []EscrowUsed   `json:"used"` // in the order of the ledger
}

// EscrowUsed is a chart that sheets opened on a box.
type EscrowUsed struct {
	Seq   uint64    `json:"seq"`
	At    time.Time `json:"at"` // ledger time
	Chart string    `json:"chart"`
	Box   string    `json:"box"`
	Until time.Time `json:"until,omitzero"` // zero: without end
	Key   string    `json:"key"`
}

// EscrowInfo is one of them.
type EscrowInfo struct {
	Key  string `json:"key"` // its id
	Need int    `json:"need"`
	Of   int    `json:"of"`
	Seq  uint64 `json:"seq"` // of the entry by which it passed
}

// Escrows lists the escrows that passed and the votes so far.
func (n *Node) Escrows() (Escrows, error) {
	out := Escrows{List: []EscrowInfo{}, Open: []ProposalInfo{}, Used: []EscrowUsed{}}
	list, err := record.EscrowsOf(n.store.State())
	if err != nil {
		return out, err
	}
	for _, e := range list {
		out.List = append(out.List, EscrowInfo{Key: escrowID(e.Public), Need: int(e.Need), Of: int(e.Of), Seq: e.Seq})
	}
	set, err := n.HubSet()
	if err != nil {
		return out, err
	}
	for _, p := range set.Proposals {
		if p.Action == actionEscrow {
			out.Open = append(out.Open, p)
		}
	}
	return out, n.addUses(&out)
}

// addUses lists them.
func (n *Node) addUses(out *Escrows) error {
	var bad error
	err := n.store.ScanRegistry(record.UsedEscrowPrefix(), func(key, value []byte) bool {
		var u record.UsedEscrow
		if u, bad = record.ReadUsedEscrow(key, value); bad != nil {
			return false
		}
		x := EscrowUsed{Seq: u.Seq, At: timeOfSeconds(u.Time), Chart: u.Compartment.String(), Box: n.deviceName(u.Device), Key: escrowID(u.Public)}
		if u.Until > 0 {
			x.Until = timeOfSeconds(int64(u.Until))
		}
		out.Used = append(out.Used, x)
		return true
	})
	slices.SortFunc(out.Used, func(a, b EscrowUsed) int { return cmp.Compare(a.Seq, b.Seq) })
	return errors.Join(err, bad)
}

// SetEscrow votes for an escrow. From when more than half of the hubs voted for the same on,
// boxes wrap new keys of charts to it.
func (n *Node) SetEscrow(ctx context.Context, q EscrowPublic) (Voted, error) {
	if err := n.mayVote("voting for an escrow"); err != nil {
		return Voted{}, err
	}
	e, err := q.escrow()
	if err != nil {
		return Voted{}, err
	}
	region, _ := n.box.RegionID()
	if q.Region != region.String() {
		return Voted{}, errors.New("voting for an escrow: it was made for another region")
	}
	now, err := n.Escrows()
	if err != nil {
		return Voted{}, err
	}
	id := escrowID(e.Public)
	if i := len(now.List) - 1; i >= 0 && now.List[i].Key == id && now.List[i].Need == int(e.Need) && now.List[i].Of == int(e.Of) {
		return Voted{}, errors.New("voting for an escrow: it is in force already")
	}
	body, err := record.Marshal(e)
	if err != nil {
		return Voted{}, err
	}
	return n.vote(ctx, &ProposalInfo{Action: actionEscrow, Escrow: id, Keys: int(e.Of), KeysMin: int(e.Need), kind: record.KindEscrow, body: body})
}

func (n *Node) escrowRoutes(reply func(pattern string, f func(r *http.Request) (any, error))) {
	reply("GET /escrow", func(*http.Request) (any, error) { return n.Escrows() })
	reply("POST /escrow", func(r *http.Request) (any, error) {
		var q EscrowPublic
		if err := readJSON(r, &q); err != nil {
			return nil, err
		}
		return n.SetEscrow(r.Context(), q)
	})
	reply("POST /escrow/open", func(r *http.Request) (any, error) {
		var q EscrowRequest
		if err := readJSON(r, &q); err != nil {
			return nil, err
		}
		return n.OpenEscrowBy(r.Context(), q)
	})
}

// Escrows, SetEscrow and OpenEscrowBy do on the box what the methods of the same name on Node say.
func (c *Client) Escrows(ctx context.Context) (e Escrows, err error) {
	return e, c.call(ctx, http.MethodGet, "/escrow", nil, &e)
}

func (c *Client) SetEscrow(ctx context.Context, q EscrowPublic) (v Voted, err error) {
	return v, c.call(ctx, http.MethodPost, "/escrow", q, &v)
}

func (c *Client) OpenEscrowBy(ctx context.Context, q EscrowRequest) (o EscrowOpened, err error) {
	return o, c.call(ctx, http.MethodPost, "/escrow/open", q, &o)
}
