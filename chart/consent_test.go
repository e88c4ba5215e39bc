package chart_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
)

func directiveID(n byte) chart.DirectiveID { return chart.DirectiveID{n} }

func box(name string) (d record.DeviceID) {
	copy(d[:], name)
	return d
}

// decide makes a directive that the box a wrote down.
func decide(id byte, what chart.Decision, change func(*chart.Decided)) chart.Decided {
	d := chart.Decided{Directive: chart.Directive{ID: directiveID(id), Decision: what}, By: box("a"), At: time.Unix(int64(id), 0)}
	if what == chart.DecisionGrant {
		d.Purposes = []string{"treatment"}
	}
	if change != nil {
		change(&d)
	}
	return d
}

func grantTo(id byte, name string, until int64, seen ...byte) chart.Decided {
	return decide(id, chart.DecisionGrant, func(d *chart.Decided) {
		if name != "" {
			d.Grantee = box(name)
		}
		d.Until = until
		for _, s := range seen {
			d.Seen = append(d.Seen, directiveID(s))
		}
	})
}

func endOf(id byte, name string, refs ...byte) chart.Decided {
	return decide(id, chart.DecisionEnd, func(d *chart.Decided) {
		if name != "" {
			d.Grantee = box(name)
		}
		for _, r := range refs {
			d.Refs = append(d.Refs, directiveID(r))
		}
	})
}

func permutations(list []chart.Decided, f func([]chart.Decided)) {
	var walk func(k int)
	walk = func(k int) {
		if k == len(list) {
			f(list)
			return
		}
		for i := k; i < len(list); i++ {
			list[k], list[i] = list[i], list[k]
			walk(k + 1)
			list[k], list[i] = list[i], list[k]
		}
	}
	walk(0)
}

func TestTheStricterWinsInEveryOrder(t *testing.T) {
	limit := decide(1, chart.DecisionLimit, nil)
	for name, x := range map[string]struct {
		all     []chart.Decided
		limited bool
		open    string // boxes with a grant
		topics  string // that are limited
	}{
		"nothing said":                        {nil, false, "", ""},
		"a limit":                             {[]chart.Decided{limit}, true, "", ""},
		"a grant":                             {[]chart.Decided{limit, grantTo(2, "b", 9)}, true, "b", ""},
		"recalled":                            {[]chart.Decided{limit, grantTo(2, "b", 9), endOf(3, "b", 2)}, true, "", ""},
		"granted again by who knew":           {[]chart.Decided{limit, grantTo(2, "b", 9), endOf(3, "b", 2), grantTo(4, "b", 9, 3)}, true, "b", ""},
		"granted elsewhere, unaware":          {[]chart.Decided{limit, grantTo(2, "b", 9), endOf(3, "b", 2), grantTo(4, "b", 0)}, true, "", ""},
		"granted to all elsewhere":            {[]chart.Decided{limit, grantTo(2, "b", 9), endOf(3, "b", 2), grantTo(4, "", 0)}, true, "", ""},
		"another box's grant stays":           {[]chart.Decided{limit, grantTo(2, "b", 9), endOf(3, "b", 2), grantTo(4, "c", 0)}, true, "c", ""},
		"two recalls, one known":              {[]chart.Decided{limit, grantTo(2, "b", 9), endOf(3, "b", 2), endOf(4, "b", 2), grantTo(5, "b", 9, 3)}, true, "", ""},
		"the limit ended":                     {[]chart.Decided{limit, endOf(3, "", 1)}, false, "", ""},
		"limited again, and ended, unaware":   {[]chart.Decided{limit, decide(5, chart.DecisionLimit, nil), endOf(3, "", 1)}, true, "", ""},
		"the end came, what it names did not": {[]chart.Decided{limit, endOf(3, "b", 2)}, true, "", ""},
		"one id for two grants":               {[]chart.Decided{limit, grantTo(2, "b", 9), grantTo(2, "c", 0)}, true, "", ""},
		"a grant that the region refused":     {[]chart.Decided{limit, refused(grantTo(2, "b", 9))}, true, "", ""},
		"a limit that the region refused":     {[]chart.Decided{refused(limit)}, true, "", ""},
		"an end that the region refused":      {[]chart.Decided{limit, refused(endOf(3, "", 1))}, true, "", ""},
		"one that it refused, one that not":   {[]chart.Decided{limit, refused(endOf(3, "", 1)), endOf(4, "", 1)}, false, "", ""},
		"a recall that the region refused":    {[]chart.Decided{limit, grantTo(2, "b", 9), refused(endOf(3, "b", 2))}, true, "", ""},
		"a limit of a topic":                  {[]chart.Decided{ofTopics(limit, "hiv")}, false, "", "hiv"},
		"of two topics, by two":               {[]chart.Decided{ofTopics(limit, "hiv"), ofTopics(decide(5, chart.DecisionLimit, nil), "mental")}, false, "", "hiv mental"},
		"of a topic nobody knows":             {[]chart.Decided{ofTopics(limit, "hiv", "gout")}, true, "", ""},
		"a topic's end":                       {[]chart.Decided{ofTopics(limit, "hiv"), endOf(3, "", 1)}, false, "", ""},
		"a topic limited again, unaware":      {[]chart.Decided{ofTopics(limit, "hiv"), endOf(3, "", 1), ofTopics(decide(5, chart.DecisionLimit, nil), "hiv", "sexual")}, false, "", "hiv sexual"},
		"limited, and granted a topic":        {[]chart.Decided{limit, ofTopics(grantTo(2, "b", 9), "hiv")}, true, "B", ""},
		"a topic granted":                     {[]chart.Decided{ofTopics(limit, "hiv"), ofTopics(grantTo(2, "b", 9), "hiv"), grantTo(4, "c", 9)}, false, "Bc", "hiv"},
		"another topic granted":               {[]chart.Decided{ofTopics(limit, "hiv"), ofTopics(grantTo(2, "b", 9), "mental")}, false, "", "hiv"},
		"a topic granted and recalled":        {[]chart.Decided{ofTopics(grantTo(2, "b", 9), "hiv"), endOf(3, "b", 2), ofTopics(grantTo(4, "b", 0), "hiv")}, false, "", ""},
		"recalled the chart, granted a topic": {[]chart.Decided{grantTo(2, "b", 9), endOf(3, "b", 2), ofTopics(grantTo(4, "b", 0), "hiv")}, false, "", ""},
		"a topic granted by who knew":         {[]chart.Decided{grantTo(2, "b", 9), endOf(3, "b", 2), ofTopics(grantTo(4, "b", 0, 3), "hiv")}, false, "B", ""},
		"one id, two topics":                  {[]chart.Decided{ofTopics(grantTo(2, "b", 9), "hiv"), ofTopics(grantTo(2, "b", 9), "mental")}, false, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var first *chart.Consent
			permutations(x.all, func(all []chart.Decided) {
				for _, twice := range [][]chart.Decided{all, append(slices.Clone(all), all...)} {
					c := chart.FoldConsent(twice, false)
					if first == nil {
						first = &c
					}
					if !reflect.DeepEqual(*first, c) {
						t.Fatalf("another order, another answer: %+v, then %+v", *first, c)
					}
				}
			})
			open := "" // in capitals: HIV too
			for _, b := range []string{"a", "b", "c"} {
				if _, ok := first.GrantFor(box(b), "treatment"); ok {
					open += b
				}
				if _, ok := first.TopicGrantFor(box(b), "treatment", fhir.TopicHIV); ok {
					open += strings.ToUpper(b)
				}
			}
			closed := strings.Join(first.LimitedTopics().Words(), " ")
			if first.Limited() != x.limited || open != x.open || closed != x.topics && !x.limited {
				t.Errorf("limited %v, topics %s, open to %q; want %v, %s, %q", first.Limited(), closed, open, x.limited, x.topics, x.open)
			}
		})
	}
}

func ofTopics(d chart.Decided, topics ...string) chart.Decided {
	d.Topics = topics
	return d
}

func refused(d chart.Decided) chart.Decided {
	d.Refused = true
	return d
}

// TestMoreWordsNeverOpenByAccident: whatever set of ends is added, no chart is more open than without them.
func TestMoreWordsNeverOpenByAccident(t *testing.T) {
	base := []chart.Decided{decide(1, chart.DecisionLimit, nil), grantTo(2, "b", 9), grantTo(3, "", 5), grantTo(4, "c", 0),
		ofTopics(decide(5, chart.DecisionLimit, nil), "hiv"), ofTopics(grantTo(6, "b", 7), "hiv")}
	ends := []chart.Decided{endOf(10, "b", 2), endOf(11, "c", 4), endOf(12, "", 3), endOf(13, "b", 9)}
	for set := range 1 << len(ends) {
		all := slices.Clone(base)
		for i, e := range ends {
			if set&(1<<i) != 0 {
				all = append(all, e)
			}
		}
		before, after := chart.FoldConsent(base, false), chart.FoldConsent(all, false)
		for _, b := range []string{"b", "c", "d"} {
			had, hadOne := before.GrantFor(box(b), "treatment")
			got, one := after.GrantFor(box(b), "treatment")
			if one && (!hadOne || had.Until != 0 && (got.Until == 0 || got.Until > had.Until)) {
				t.Errorf("ends %b open the chart to %s", set, b)
			}
			had, hadOne = before.TopicGrantFor(box(b), "treatment", fhir.TopicHIV)
			if got, one := after.TopicGrantFor(box(b), "treatment", fhir.TopicHIV); one && (!hadOne || got.Until > had.Until) {
				t.Errorf("ends %b open a topic to %s", set, b)
			}
		}
		if !after.Limited() || len(after.TopicLimits) != 1 {
			t.Errorf("ends %b of grants end the limit", set)
		}
	}
}

func TestGrantForTakesTheLongest(t *testing.T) {
	c := chart.FoldConsent([]chart.Decided{grantTo(1, "b", 50), grantTo(2, "b", 70), grantTo(3, "", 60), grantTo(4, "c", 90)}, false)
	if d, ok := c.GrantFor(box("b"), "treatment"); !ok || d.Until != 70 {
		t.Errorf("got %v until %d, want 70", ok, d.Until)
	}
	if d, ok := c.GrantFor(box("d"), "treatment"); !ok || d.Until != 60 {
		t.Errorf("by the grant to all: %v until %d, want 60", ok, d.Until)
	}
	if _, ok := c.GrantFor(box("b"), "research"); ok {
		t.Error("a grant for treatment opens the chart to research")
	}
	topics := chart.FoldConsent([]chart.Decided{decide(1, chart.DecisionGrant, func(d *chart.Decided) { d.Grantee, d.Topics = box("b"), []string{"hiv"} })}, true)
	if _, ok := topics.GrantFor(box("b"), "treatment"); ok || !topics.Limited() {
		t.Error("a grant of one topic opens the whole chart, or an unread directive limits nothing")
	}
}

func TestDirectivesComeBack(t *testing.T) {
	for _, d := range []chart.Decided{decide(1, chart.DecisionLimit, nil), grantTo(2, "b", 1<<35, 7, 8), grantTo(3, "", 0), endOf(4, "b", 2), endOf(5, "", 1),
		decide(6, chart.DecisionLimit, func(d *chart.Decided) { d.Topics = []string{"hiv", "mental-health"} })} {
		b, err := chart.EncodeDirective(d.Directive)
		if err != nil {
			t.Fatal(err)
		}
		got, err := chart.DecodeDirective(b)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(d.Directive) {
			t.Errorf("%+v came back as %+v, %v", d.Directive, got, err)
		}
	}
	many := make([]chart.DirectiveID, chart.DirectiveRefsMax+1)
	for name, d := range map[string]chart.Directive{
		"no id":               {Decision: chart.DecisionLimit},
		"no decision":         {ID: directiveID(1)},
		"unknown decision":    {ID: directiveID(1), Decision: 9},
		"a limit for one":     {ID: directiveID(1), Decision: chart.DecisionLimit, Grantee: box("b")},
		"a grant for nothing": {ID: directiveID(1), Decision: chart.DecisionGrant},
		"an end of nothing":   {ID: directiveID(1), Decision: chart.DecisionEnd},
		"words with markup":   {ID: directiveID(1), Decision: chart.DecisionGrant, Purposes: []string{"<b>"}},
		"one word twice":      {ID: directiveID(1), Decision: chart.DecisionGrant, Purposes: []string{"a", "a"}},
		"before all time":     {ID: directiveID(1), Decision: chart.DecisionGrant, Purposes: []string{"a"}, Until: -1},
		"after all dates":     {ID: directiveID(1), Decision: chart.DecisionGrant, Purposes: []string{"a"}, Until: 1 << 40},
		"too many":            {ID: directiveID(1), Decision: chart.DecisionEnd, Refs: many},
	} {
		if _, err := chart.EncodeDirective(d); !errors.Is(err, chart.ErrBody) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodeDirective(f *testing.F) {
	for _, d := range []chart.Decided{decide(1, chart.DecisionLimit, nil), grantTo(2, "b", 1<<35, 7, 8), endOf(4, "b", 2)} {
		b, err := chart.EncodeDirective(d.Directive)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := chart.DecodeDirective(b)
		if err != nil {
			if !errors.Is(err, chart.ErrBody) {
				t.Fatalf("an error of no family: %v", err)
			}
			return
		}
		again, err := chart.EncodeDirective(d)
		if err != nil || !slices.Equal(again, b) {
			t.Fatalf("%x came back as %x, %v", b, again, err)
		}
	})
}
