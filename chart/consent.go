package chart

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
)

// Limits of one directive.
const (
	DirectiveSizeMax    = 16 << 10
	DirectiveRefsMax    = 256
	directiveWordsMax   = 16
	directiveVersion    = 1
	directiveUntilMax   = 253_402_300_799 // the last second of the year 9999, after which dates have no form
	directiveWordSource = `^[a-z][a-z0-9_-]{0,31}$`
)

var directiveWord = regexp.MustCompile(directiveWordSource)

// Decision is what a directive does.
type Decision uint8

const (
	DecisionLimit Decision = 1 // only home and whom a grant names may open the chart
	DecisionGrant Decision = 2 // the grantee may open it although it is limited
	DecisionEnd   Decision = 3 // the directives in Refs hold no more
)

// DirectiveID names a directive for good, whatever record carries it.
type DirectiveID [16]byte

// Directive is one decision of a patient about who may read.
type Directive struct {
	ID       DirectiveID
	Decision Decision
	// Grantee is the box that a grant opens the chart to, and whose grants an end recalls; zeros mean every
	// box of the region for a grant, and none in particular for an end.
	Grantee  record.DeviceID
	Purposes []string // of a grant: what for
	// Topics are the sensitive topics that it is about, by the words of fhir.Topics; none: the whole chart. A
	// limit of topics of which this program does not know one limits the whole chart, as one of any topic does
	// on boxes with a program from before charts were told apart by topics. A grant of topics opens nothing else.
	Topics []string
	Until  int64         // of a grant: Unix seconds, 0 for no end
	Refs   []DirectiveID // of an end: what it recalls
	Seen   []DirectiveID // of a grant: the ends that its author knew of
}

type directiveArray struct {
	_        struct{} `cbor:",toarray"`
	ID       []byte
	Decision uint8
	Grantee  []byte // 32, or empty
	Purposes []string
	Topics   []string
	Until    uint64
	Refs     []byte // 16 each
	Seen     []byte
}

// EncodeDirective gives the bytes of a directive. It refuses what DecodeDirective would refuse.
func EncodeDirective(d Directive) ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	a := directiveArray{ID: d.ID[:], Decision: uint8(d.Decision), Purposes: d.Purposes, Topics: d.Topics, Until: uint64(d.Until), Refs: joinIDs(d.Refs), Seen: joinIDs(d.Seen)}
	if d.Grantee != (record.DeviceID{}) {
		a.Grantee = d.Grantee[:]
	}
	enc, err := record.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("encoding a directive: %w", err)
	}
	return append([]byte{directiveVersion}, enc...), nil
}

// DecodeDirective reads the bytes of a directive. The error wraps ErrBody and holds nothing of the content.
func DecodeDirective(b []byte) (Directive, error) {
	if len(b) < 2 || len(b) > DirectiveSizeMax || b[0] != directiveVersion {
		return Directive{}, fmt.Errorf("%w: size or version of a directive", ErrBody)
	}
	var a directiveArray
	if err := record.Unmarshal(b[1:], &a); err != nil {
		return Directive{}, fmt.Errorf("%w: %w", ErrBody, err)
	}
	d := Directive{Decision: Decision(a.Decision), Purposes: a.Purposes, Topics: a.Topics, Until: int64(a.Until)}
	refs, ok := splitIDs(a.Refs)
	seen, ok2 := splitIDs(a.Seen)
	if !ok || !ok2 || len(a.ID) != len(d.ID) || len(a.Grantee) != 0 && len(a.Grantee) != len(d.Grantee) {
		return Directive{}, fmt.Errorf("%w: an id in a directive", ErrBody)
	}
	copy(d.ID[:], a.ID)
	copy(d.Grantee[:], a.Grantee)
	d.Refs, d.Seen = refs, seen
	if len(a.Grantee) != 0 && d.Grantee == (record.DeviceID{}) {
		return Directive{}, fmt.Errorf("%w: a grantee of zeros", ErrBody)
	}
	return d, d.check()
}

func joinIDs(list []DirectiveID) []byte {
	out := make([]byte, 0, len(DirectiveID{})*len(list))
	for i := range list {
		out = append(out, list[i][:]...)
	}
	return out
}

func splitIDs(b []byte) ([]DirectiveID, bool) {
	const size = len(DirectiveID{})
	if len(b)%size != 0 || len(b) > size*DirectiveRefsMax {
		return nil, false
	}
	var list []DirectiveID
	for ; len(b) > 0; b = b[size:] {
		list = append(list, DirectiveID(b[:size]))
	}
	return list, true
}

func (d *Directive) check() error {
	ok := d.ID != DirectiveID{} && d.Until >= 0 && d.Until <= directiveUntilMax && len(d.Refs) <= DirectiveRefsMax && len(d.Seen) <= DirectiveRefsMax &&
		directiveWords(d.Purposes) && directiveWords(d.Topics)
	switch d.Decision {
	case DecisionLimit:
		ok = ok && d.Grantee == record.DeviceID{} && len(d.Purposes)+len(d.Refs)+len(d.Seen) == 0 && d.Until == 0
	case DecisionGrant:
		ok = ok && len(d.Purposes) > 0 && len(d.Refs) == 0
	case DecisionEnd:
		ok = ok && len(d.Purposes)+len(d.Topics)+len(d.Seen) == 0 && d.Until == 0 && len(d.Refs) > 0
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("%w: a directive that decides nothing that is known", ErrBody)
	}
	return nil
}

// directiveWords are few, plain, and each there once.
func directiveWords(list []string) bool {
	for i, w := range list {
		if !directiveWord.MatchString(w) || slices.Contains(list[:i], w) {
			return false
		}
	}
	return len(list) <= directiveWordsMax
}

// Decided is a directive with the record that it stands in.
type Decided struct {
	Directive
	RID     record.RID
	By      record.DeviceID // the box that wrote it down
	Refused bool            // the region did not take its record
	At      time.Time       // when it was written down, as far as that is known
	Author  string          // the staff member that wrote it down
	Signed  bool            // by that person, besides the box
}

// Ended is a directive that holds no more.
type Ended struct {
	Decided
	End Decided
}

// Consent is what a patient decided about who may read, as the records of the compartment say it. Grants
// that are over by the time are still among Grants: what the time is, is not told by records.
type Consent struct {
	Limits      []Decided // of the whole chart
	TopicLimits []Decided
	Grants      []Decided
	Ended       []Ended
	Unread      bool // there are directives that this box cannot read: they are taken for a limit
}

// FoldConsent finds what holds, from the directives of one compartment in any order. What is said in two
// places at once ends with the stricter: a limit holds until an end names it that the region did not refuse; a grant ends when an end
// names it, and when an end of a grant to the same box was written that its author did not know of.
func FoldConsent(all []Decided, unread bool) Consent {
	all = oneOfEachDirective(all)
	var ends []Decided
	for _, d := range all {
		if d.Decision == DecisionEnd {
			ends = append(ends, d)
		}
	}
	c := Consent{Unread: unread}
	for i, d := range all {
		if d.Decision == DecisionEnd {
			continue
		}
		if j := slices.IndexFunc(ends, func(e Decided) bool { return e.ends(&d.Directive) && !(e.Refused && d.Decision == DecisionLimit) }); j >= 0 {
			c.Ended = append(c.Ended, Ended{Decided: d, End: ends[j]})
			continue
		}
		switch same := sameID(all, i); {
		case d.Decision == DecisionLimit && d.ofTopics() != 0:
			c.TopicLimits = append(c.TopicLimits, d)
		case d.Decision == DecisionLimit:
			c.Limits = append(c.Limits, d)
		case !same && !d.Refused:
			c.Grants = append(c.Grants, d)
		}
	}
	return c
}

// ends reports whether an end recalls d.
func (d *Directive) ends(x *Directive) bool {
	if slices.Contains(d.Refs, x.ID) {
		return true
	}
	if x.Decision != DecisionGrant || d.Grantee == (record.DeviceID{}) || slices.Contains(x.Seen, d.ID) {
		return false
	}
	return x.Grantee == d.Grantee || x.Grantee == record.DeviceID{}
}

// oneOfEachDirective sorts them and leaves out what is there twice, with the same content by the same box.
func oneOfEachDirective(all []Decided) []Decided {
	all = slices.Clone(all)
	slices.SortFunc(all, compareDecided)
	return slices.CompactFunc(all, func(a, b Decided) bool { return compareDirectives(&a, &b) == 0 })
}

// compareDecided orders by what is decided and by whom; of the same thing, one that was taken comes first.
func compareDecided(a, b Decided) int {
	if n := compareDirectives(&a, &b); n != 0 {
		return n
	}
	if a.Refused != b.Refused {
		if a.Refused {
			return 1
		}
		return -1
	}
	return a.At.Compare(b.At)
}

func compareDirectives(a, b *Decided) int {
	return cmp.Or(bytes.Compare(a.ID[:], b.ID[:]), cmp.Compare(a.Decision, b.Decision), bytes.Compare(a.By[:], b.By[:]),
		bytes.Compare(a.Grantee[:], b.Grantee[:]), cmp.Compare(a.Until, b.Until), slices.Compare(a.Purposes, b.Purposes), slices.Compare(a.Topics, b.Topics),
		bytes.Compare(joinIDs(a.Refs), joinIDs(b.Refs)), bytes.Compare(joinIDs(a.Seen), joinIDs(b.Seen)))
}

// sameID reports whether another directive has the id of all[i], which are sorted: somebody's mistake or
// lie, by which no chart opens.
func sameID(all []Decided, i int) bool {
	return i > 0 && all[i-1].ID == all[i].ID || i+1 < len(all) && all[i+1].ID == all[i].ID
}

// ofTopics are the topics that it is about; 0 where it is about the whole chart, or about a topic that this
// program does not know.
func (d *Directive) ofTopics() fhir.Topics {
	t, ok := fhir.TopicsOfWords(d.Topics)
	if !ok {
		return 0
	}
	return t
}

// Limited reports whether only some boxes may open the chart.
func (c *Consent) Limited() bool { return len(c.Limits) > 0 || c.Unread }

// SetHere reports whether a limit that holds was written down at this box, which is then at home.
func (c *Consent) SetHere(box record.DeviceID) bool {
	return slices.ContainsFunc(c.Limits, func(d Decided) bool { return d.By == box })
}

// LimitedTopics are those that only some boxes may see.
func (c *Consent) LimitedTopics() (t fhir.Topics) {
	if c.Limited() {
		return fhir.AllTopics
	}
	for i := range c.TopicLimits {
		t |= c.TopicLimits[i].ofTopics()
	}
	return t
}

// TopicSetHere reports whether a limit of the topic that holds was written down at this box.
func (c *Consent) TopicSetHere(box record.DeviceID, t fhir.Topics) bool {
	return slices.ContainsFunc(c.TopicLimits, func(d Decided) bool { return d.By == box && d.ofTopics()&t != 0 })
}

// GrantFor is the grant to a box for a purpose that runs longest; it may be over.
func (c *Consent) GrantFor(box record.DeviceID, purpose string) (best Decided, ok bool) {
	return c.longest(box, purpose, func(d *Decided) bool { return len(d.Topics) == 0 })
}

// TopicGrantFor is the one that names the topic. A grant of the whole chart names none.
func (c *Consent) TopicGrantFor(box record.DeviceID, purpose string, t fhir.Topics) (best Decided, ok bool) {
	return c.longest(box, purpose, func(d *Decided) bool {
		named, _ := fhir.TopicsOfWords(d.Topics) // others are of newer programs
		return named&t != 0
	})
}

func (c *Consent) longest(box record.DeviceID, purpose string, fits func(*Decided) bool) (best Decided, ok bool) {
	for _, d := range c.Grants {
		if d.Grantee != box && d.Grantee != (record.DeviceID{}) || !slices.Contains(d.Purposes, purpose) || !fits(&d) {
			continue
		}
		if !ok || best.Until != 0 && (d.Until == 0 || d.Until > best.Until) {
			best, ok = d, true
		}
	}
	return best, ok
}

// Seen are the ends of grants among the directives, of which a new grant must say that it knows them. It
// fails when there are more than one directive can name.
func Seen(all []Decided) ([]DirectiveID, error) {
	var seen []DirectiveID
	for _, d := range oneOfEachDirective(all) {
		if d.Decision == DecisionEnd && !slices.Contains(seen, d.ID) {
			seen = append(seen, d.ID)
		}
	}
	if len(seen) > DirectiveRefsMax {
		return nil, errors.New("granting: this patient recalled grants too often for another one")
	}
	return seen, nil
}
