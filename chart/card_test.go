package chart_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/chart"
)

func card(id byte, ends ...byte) chart.Card {
	c := chart.Card{}
	if id != 0 {
		c.ID, c.Find, c.Lock = chart.CardID{id}, [16]byte{id, 1}, []byte{id, 2}
	}
	for _, e := range ends {
		c.Ends = append(c.Ends, chart.CardID{e})
	}
	return c
}

// keyed is a card with a key.
func keyed(id byte, ends ...byte) chart.Card {
	c := card(id, ends...)
	c.Key = bytes.Repeat([]byte{id, 7}, 16)
	return c
}

// TestCardsOfTheFirstVersion: records that were written before cards had keys.
func TestCardsOfTheFirstVersion(t *testing.T) {
	for old, want := range map[string]chart.Card{
		"0185500300000000000000000000000000000050030100000000000000000000000000004203026b4772616e646d6f74686572582001000000000000000000000000000000" + "02000000000000000000000000000000": func() chart.Card {
			c := card(3, 1, 2)
			c.Holder = "Grandmother"
			return c
		}(),
		"01854040406050" + "01000000000000000000000000000000": card(0, 1),
	} {
		b, err := hex.DecodeString(old)
		if err != nil {
			t.Fatal(err)
		}
		got, err := chart.DecodeCard(b)
		if err != nil || !reflect.DeepEqual(got, want) || len(got.Key) != 0 {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
		if again, err := chart.EncodeCard(got); err != nil || !bytes.Equal(again, b) {
			t.Errorf("written as %x, %v", again, err)
		}
	}
}

func TestCardsComeBack(t *testing.T) {
	guardian := card(3, 1, 2)
	guardian.Holder = "Grandmother"
	for _, c := range []chart.Card{card(1), card(0, 1), card(2, 1), guardian, keyed(4, 1)} {
		b, err := chart.EncodeCard(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := chart.DecodeCard(b)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%+v came back as %+v, %v", c, got, err)
		}
	}
	long := card(1)
	long.Holder = strings.Repeat("a", chart.CardHolderMax+1)
	short, none := keyed(1), card(0, 1)
	short.Key, none.Key = short.Key[:31], short.Key
	for name, c := range map[string]chart.Card{"nothing": {}, "a short key": short, "a key of no card": none, "ends itself": card(1, 1), "no lock": {ID: chart.CardID{1}}, "a long holder": long, "a holder of no card": {Holder: "x", Ends: []chart.CardID{{1}}}} {
		if _, err := chart.EncodeCard(c); !errors.Is(err, chart.ErrBody) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLostCardsStayDead: in whatever order records come, and however often.
func TestLostCardsStayDead(t *testing.T) {
	at := func(c chart.Card, minute int) chart.Carded {
		return chart.Carded{Card: c, At: time.Date(2026, 11, 21, 10, minute, 0, 0, time.UTC)}
	}
	refused := at(card(6), 9)
	refused.Refused = true
	twin := at(card(7), 10)
	twin.Find[3] = 9
	otherKey := at(keyed(8), 11)
	otherKey.Key = bytes.Repeat([]byte{9}, 32)
	lost := at(card(0, 4), 8)
	lost.Refused = true // the stricter holds
	all := []chart.Carded{at(card(1), 1), at(card(2, 1), 2), at(card(3), 3), at(card(0, 2), 4), at(card(4), 5), lost, at(card(5), 6), refused, at(card(7), 7), twin, at(keyed(8), 6), otherKey}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		mixed := append(slices.Clone(all), all[rnd.IntN(len(all))])
		rnd.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		var holds []byte
		for _, s := range chart.FoldCards(mixed) {
			if s.Ended == nil {
				holds = append(holds, s.ID[0])
			}
		}
		if slices.Sort(holds); !bytes.Equal(holds, []byte{3, 5}) {
			t.Fatalf("cards %v hold, want 3 and 5", holds)
		}
	}
}

func FuzzDecodeCard(f *testing.F) {
	for _, c := range []chart.Card{card(1), card(0, 1), card(2, 1), keyed(3)} {
		b, err := chart.EncodeCard(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := chart.DecodeCard(b)
		if err != nil {
			if !errors.Is(err, chart.ErrBody) {
				t.Errorf("an error of no family: %v", err)
			}
			return
		}
		again, err := chart.EncodeCard(c)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("a card has two forms: %v", err)
		}
	})
}
