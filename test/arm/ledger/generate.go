package main

import (
	"crypto/ed25519"
	"math/rand/v2"

	"github.com/healthpost/healthpost/record"
)

// authors is how many devices write into the made-up region.
const authors = 4

// log makes raft log items that depend on nothing but its seed: a region is
// founded, devices join it, and then all of them write clinical records.
type log struct {
	rng    *rand.ChaCha8
	millis int64
	who    []*author
}

// author is one device with one open epoch.
type author struct {
	key   ed25519.PrivateKey
	epoch record.EpochID
	heads [record.LaneCount]record.Head
}

// newLog returns the log and its first item, which founds the region.
func newLog(seed uint64) (*log, record.Batch) {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	l := &log{rng: rand.NewChaCha8(key), millis: 1_700_000_000_000}
	var founding []record.Record
	for i := range authors {
		founding = append(founding, l.join(i)...)
	}
	return l, l.item(founding)
}

func (l *log) bytes(n int) []byte {
	b := make([]byte, n)
	l.rng.Read(b)
	return b
}

func (l *log) item(records []record.Record) record.Batch {
	l.millis += 250
	return record.Batch{LeaderMillis: l.millis, Records: records}
}

// join makes a device and the records that bring it in. The first one founds
// the region and admits the others.
func (l *log) join(i int) []record.Record {
	a := &author{key: ed25519.NewKeyFromSeed(l.bytes(32))}
	l.who = append(l.who, a)
	opening := l.open(a)
	member := record.MemberAdd{Device: a.key.Public().(ed25519.PublicKey), Encryption: l.bytes(32),
		Role: record.RoleClinic, Name: "box " + string(rune('a'+i))}
	if i == 0 {
		member.Role = record.RoleStandalone
		found := record.RegionFound{Name: "seeded", Nonce: l.bytes(16), Founder: member}
		return []record.Record{opening, l.sign(a, record.LaneControl, record.KindRegionFound, record.CompartmentID{}, encode(found))}
	}
	admitted := l.sign(l.who[0], record.LaneControl, record.KindMemberAdd, record.CompartmentID{}, encode(member))
	return []record.Record{admitted, opening}
}

// open makes the record that opens a's epoch, in which every lane begins.
func (l *log) open(a *author) record.Record {
	body := record.EpochOpen{Device: a.key.Public().(ed25519.PublicKey), Nonce: l.bytes(16), Hardware: l.bytes(32),
		ClockMillis: l.millis, Software: "rig", Root: record.EmptyRoot[:]}
	opening := record.Sign(record.Core{Kind: record.KindEpochOpen, HLC: uint64(l.millis) << 16}, encode(body), a.key)
	a.epoch = opening.OpenedEpoch()
	for lane := range a.heads {
		a.heads[lane] = record.Head{RID: opening.RID()}
	}
	return opening
}

// sign makes the next record of one of a's feeds.
func (l *log) sign(a *author, lane record.Lane, kind record.Kind, c record.CompartmentID, body []byte) record.Record {
	head := &a.heads[lane]
	r := record.Sign(record.Core{Epoch: a.epoch, Lane: lane, N: head.N + 1, Prev: head.RID, HLC: uint64(l.millis) << 16,
		Kind: kind, Compartment: c}, body, a.key)
	*head = record.Head{N: head.N + 1, RID: r.RID()}
	return r
}

// next makes an item of n clinical records, over a thousand compartments, with
// bodies of the size that a packed visit has.
func (l *log) next(n int) record.Batch {
	records := make([]record.Record, n)
	for i := range records {
		pick := l.rng.Uint64()
		c := record.CompartmentID{0: 1, 14: byte(pick >> 8 % 4), 15: byte(pick)}
		body := l.bytes(200 + 32*int(pick>>16%8))
		records[i] = l.sign(l.who[pick>>32%authors], record.LaneClinical, record.KindClinical, c, body)
	}
	return l.item(records)
}

// encode gives the bytes of a control body, all of which encode.
func encode(v any) []byte {
	b, err := record.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
