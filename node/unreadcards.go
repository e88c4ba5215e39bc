package node

import "github.com/healthpost/healthpost/chart"

// cardsBefore finds the cards before a record of cards that nobody reads here.
type cardsBefore struct {
	made map[chart.CardID]stand // where a card was made first
	last *chart.Carded          // the last such record
	at   stand
}

func (b *cardsBefore) unread(x chart.Carded, at stand) {
	if b.last == nil || b.at.compare(at) < 0 {
		b.last, b.at = &x, at
	}
}

func (b *cardsBefore) read(id chart.CardID, at stand) {
	if b.made == nil {
		b.made = map[chart.CardID]stand{}
	}
	if first, ok := b.made[id]; !ok || at.compare(first) < 0 {
		b.made[id] = at
	}
}

// end ends them.
func (b *cardsBefore) end(list []chart.CardState) []chart.CardState {
	for i := range list {
		if s := &list[i]; b.last != nil && s.Ended == nil && b.made[s.ID].compare(b.at) < 0 {
			s.Ended = b.last
		}
	}
	return list
}
