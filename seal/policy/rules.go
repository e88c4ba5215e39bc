package policy

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"sync"

	"github.com/cedar-policy/cedar-go"
)

// ErrRules: a text that is not a set of rules.
var ErrRules = errors.New("not a set of rules")

// Limits of a set of rules. Every decision looks at each of them.
const (
	RulesBytesMax = 64 << 10
	RulesMax      = 200

	ruleIDMax = 64
)

// Rules is a set of rules, ready to be asked. It is safe for concurrent use.
type Rules struct {
	ids  []cedar.PolicyID // in the order of the text
	list cedar.PolicyList

	unheard []Action // of which the text is too old to say anything
}

//go:embed default.cedar
var defaultText []byte

// Default is what a region starts with. A text that is no set of rules would allow
// nothing; a test sees to it that there is none.
var Default = sync.OnceValue(func() *Rules {
	r, err := Compile(defaultText)
	if err != nil {
		return &Rules{}
	}
	return r
})

// DefaultText is the text of Default.
func DefaultText() []byte { return bytes.Clone(defaultText) }

var ruleID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// Compile reads rules in the Cedar language, each with an @id of lower-case letters,
// digits and hyphens, at most 64 of them and not used twice. The error wraps ErrRules
// and says where; the text itself is not repeated in it.
func Compile(text []byte) (*Rules, error) {
	if len(text) > RulesBytesMax {
		return nil, fmt.Errorf("reading rules: %w: %d bytes, at most %d", ErrRules, len(text), RulesBytesMax)
	}
	if depth := nesting(text); depth > nestingMax {
		return nil, fmt.Errorf("reading rules: %w: brackets %d deep, at most %d", ErrRules, depth, nestingMax)
	}
	list, err := cedar.NewPolicyListFromBytes("rules", text)
	if err != nil {
		return nil, fmt.Errorf("reading rules: %w: %v", ErrRules, err)
	}
	if len(list) == 0 || len(list) > RulesMax {
		return nil, fmt.Errorf("reading rules: %w: %d of them, want 1 to %d", ErrRules, len(list), RulesMax)
	}
	r := &Rules{list: list}
	seen := map[string]bool{}
	for i, p := range list {
		id := string(p.Annotations()["id"])
		if len(id) > ruleIDMax || !ruleID.MatchString(id) || seen[id] {
			return nil, fmt.Errorf("reading rules: %w: rule %d has no @id of its own", ErrRules, i+1)
		}
		seen[id] = true
		r.ids = append(r.ids, cedar.PolicyID(id))
	}
	for _, a := range LaterActions {
		if !bytes.Contains(text, []byte(`"`+a+`"`)) {
			r.unheard = append(r.unheard, a)
		}
	}
	return r, nil
}

// nestingMax bounds how deep the parser and the evaluation may call themselves.
const nestingMax = 32

// nesting is how deep the brackets of the text go, and runs of prefix operators, which nest too.
func nesting(text []byte) int {
	depth, deepest, run := 0, 0, 0
	for _, c := range text {
		switch c {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		case '!', '-':
			run++
			deepest = max(deepest, depth+run)
			continue
		case ' ', '\t', '\n', '\r':
			continue
		}
		run = 0
		deepest = max(deepest, depth)
	}
	return deepest
}

// All gives the rules in the order of their text: the evaluation's own order would be a map's.
func (r *Rules) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for i, id := range r.ids {
			if !yield(id, r.list[i]) {
				return
			}
		}
	}
}
