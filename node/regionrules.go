package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/policy"
)

// What is allowed in the region is in its ledger, by the votes of hubs; until any passed, it
// is what the program brings. The newest rules that this box can read count here.

// regionRules are those that a box decides by.
type regionRules struct {
	rules *policy.Rules
	text  []byte
	seq   uint64
}

// RegionRules are the rules that a box decides by.
type RegionRules struct {
	Text    string `json:"text"`
	Seq     uint64 `json:"seq"`              // of the entry by which they passed
	Default bool   `json:"default"`          // none passed: those that the program brings
	Newer   int    `json:"newer,omitempty"`  // passed since, and not read here
	Reason  string `json:"reason,omitempty"` // why the newest is not
}

// rules are those that count here now.
func (n *Node) rules() *policy.Rules {
	if r := n.ruled.Load(); r != nil {
		return r.rules
	}
	return policy.Default()
}

// loadRules takes up the newest rules of the ledger that can be read.
func (n *Node) loadRules() error {
	r, reason, err := n.newestRules()
	if err != nil {
		return err
	}
	if reason != nil {
		n.log.Warn().Err(reason).Msg("the newest rules of the region cannot be read, older ones count here")
	}
	n.ruled.Store(r)
	return nil
}

// newestRules reads them. reason is why not the last ones; nil rules are those of the program.
func (n *Node) newestRules() (r *regionRules, reason, err error) {
	list, err := record.RulesOf(n.store.State())
	if err != nil {
		return nil, nil, err
	}
	for i := len(list) - 1; i >= 0; i-- {
		x, why, err := n.readRules(&list[i])
		if err != nil || why == nil {
			return x, reason, err
		}
		if reason == nil {
			reason = why
		}
	}
	return nil, reason, nil
}

func (n *Node) readRules(x *record.OrderedRules) (r *regionRules, why, err error) {
	if now := n.ruled.Load(); now != nil && now.seq == x.Seq {
		return now, nil, nil
	}
	e, err := n.store.Entry(x.Seq)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the rules of entry %d: %w", x.Seq, err)
	}
	name := sha256.Sum256(e.Record.Body)
	if !bytes.Equal(name[:], x.Name) {
		return nil, fmt.Errorf("the rules of entry %d: %w: another text", x.Seq, record.ErrMalformed), nil
	}
	rules, why := policy.Compile(e.Record.Body)
	return &regionRules{rules, e.Record.Body, x.Seq}, why, nil
}

// RegionRules gives the rules that this box decides by.
func (n *Node) RegionRules() (RegionRules, error) {
	r, reason, err := n.newestRules()
	if err != nil {
		return RegionRules{}, err
	}
	out := RegionRules{Text: string(policy.DefaultText()), Default: true}
	if r != nil {
		out = RegionRules{Text: string(r.text), Seq: r.seq}
	}
	if reason != nil {
		out.Reason = reason.Error()
		list, err := record.RulesOf(n.store.State())
		if err != nil {
			return out, err
		}
		for i := range list {
			if out.Default || list[i].Seq > out.Seq {
				out.Newer++
			}
		}
	}
	return out, nil
}

// SetRules votes for rules of the region. They hold once more than half of the hubs voted for
// the same text.
func (n *Node) SetRules(ctx context.Context, text []byte) (Voted, error) {
	if err := n.mayVote("voting for rules"); err != nil {
		return Voted{}, err
	}
	if err := record.CheckRulesText(text); err != nil {
		return Voted{}, err
	}
	if _, err := policy.Compile(text); err != nil {
		return Voted{}, err
	}
	now, err := n.RegionRules()
	if err != nil {
		return Voted{}, err
	}
	if now.Text == string(text) && !now.Default {
		return Voted{}, errors.New("voting for rules: these are in force already")
	}
	return n.vote(ctx, &ProposalInfo{Action: actionRules, Rules: rulesName(text), kind: record.KindRules, body: text})
}

// rulesName is what people compare a text of rules by.
func rulesName(text []byte) string {
	sum := sha256.Sum256(text)
	return fmt.Sprintf("%x", sum[:8])
}

// rulesBodyMax is for rules as a JSON text, most of whose letters stand for themselves.
const rulesBodyMax = 3 * record.RulesTextMax

// rulesCame takes up rules that an arrival brought into force.
func (p *projection) rulesCame(r *record.Record, pending bool) error {
	if r.Core.Kind != record.KindRules || pending {
		return nil
	}
	return p.n.loadRules()
}

func (n *Node) rulesRoutes(reply func(pattern string, f func(r *http.Request) (any, error))) {
	reply("GET /rules", func(*http.Request) (any, error) { return n.RegionRules() })
	reply("POST /rules", func(r *http.Request) (any, error) {
		var text string
		if err := json.NewDecoder(r.Body).Decode(&text); err != nil {
			return nil, fmt.Errorf("reading the rules: %w", err)
		}
		return n.SetRules(r.Context(), []byte(text))
	})
}

// RegionRules and SetRules do on the box what the methods of the same name on Node say.
func (c *Client) RegionRules(ctx context.Context) (r RegionRules, err error) {
	return r, c.call(ctx, http.MethodGet, "/rules", nil, &r)
}

func (c *Client) SetRules(ctx context.Context, text []byte) (v Voted, err error) {
	return v, c.call(ctx, http.MethodPost, "/rules", string(text), &v)
}
