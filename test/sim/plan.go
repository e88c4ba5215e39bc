package sim

import "math/rand/v2"

// plan is what a seed decides before anything happens. An "in" is one time in so
// many, 0 for never.
type plan struct {
	Hubs            int
	Clinics, Fields int // of them the last ones are field devices, which carry and do not save
	Patients        int
	SavesMax        int // 0 for any number
	SafetyMillis    int64

	SaveMillis    int64 // between two saves of a box, on average
	VisitMillis   int64 // between two sessions that a clinic starts
	HubTalk       int64 // between two looks at the links among hubs
	OrderMillis   int64 // between two items
	ProposeMillis int64 // between two checkpoints
	CheckMillis   int64 // between two boxes that are held to the invariants
	MeetMillis    int64 // between two exchanges that run to their end at once
	ApplyMillis   int64 // a hub lags by up to this
	BatchMax      int
	BatchBytes    int   // of one feed in a batch
	Latency       int64 // one way, milliseconds
	BytesPerSec   int64
	Window        int
	Turns         bool
	NeighboursIn  int
	CutIn         int // of sessions that end, cut instead of ended
	LieIn         int // of sessions, with a liar at one end

	CrashMillis   int64 // between two crashes in the region, 0 for none
	HubCrashIn    int   // of crashes, of a hub
	WriteCrashIn  int   // of crashes, within a write
	ForgetIndexIn int   // of crashes, back to the index of the last checkpoint
	RestoreMillis int64 // between two old cards, 0 for none
	SplitMillis   int64 // between two partitions of the hubs, 0 for none
	ClockMillis   int64 // between two clock jumps, 0 for none
	AgainIn       int   // of batches, with what was proposed before
	JunkIn        int   // of items, no batch at all

	// Of the scenario Bulk alone.
	ImportMillis int64 // between two imports
	ImportMax    int   // records of one import
	Sampled      bool  // checks look again at some of what they saw, not at all of it

	// Of the scenario Parcels alone.
	Remote       int   // clinics without a link, the first ones
	ParcelMillis int64 // between two sticks from or to one of them
	StickFaultIn int   // of sticks, one that is lost, damaged, or an old one

	// Of the scenario Cards alone.
	CloneMillis   int64 // between two copies of a card that go into another board, 0 for none
	ClonesMax     int
	KeepImageIn   int   // of old cards, one that is put back again later
	HubCardMillis int64 // between two old cards of hubs, 0 for none
	Votes         bool  // hubs vote by what their disks hold

	// Of the scenario Twice alone.
	Equivocate   bool  // a clinic contradicts itself
	BranchMillis int64 // between two times that it does

	// Of the scenario Partial alone.
	Parts        int    // clinics that hold a part from the beginning
	Recent       uint64 // newest entries that a box without a ledger takes first
	AssignMillis int64  // between two changes of a profile

	// Of the scenario Members alone.
	RevokeMillis int64 // between two revocations
	RevokedMax   int
	UnknownIn    int // of saves, of a kind that no release knows

	// Of the scenario Erase alone.
	EraseMillis int64 // between two erasures

	// Of the scenario Hubs alone.
	Rounds     int
	Liars      int // hubs that lie
	Lie        lie
	TrickIn    int  // of contacts with a liar, one with a lie of its own
	ShakeIn    int  // of contacts with a liar, one whose bytes are changed
	WrongTimes bool // liars sign at any time
	Flood      bool // liars offer evidence of their own making
}

func drawPlan(r *rand.Rand) plan {
	pick := func(list ...int64) int64 { return list[r.IntN(len(list))] }
	p := plan{
		Hubs: 3, Clinics: 2 + r.IntN(4), Patients: 2 + r.IntN(6), SafetyMillis: pick(30_000, 60_000, 120_000),
		SaveMillis: pick(2_000, 5_000, 12_000), VisitMillis: pick(2_000, 8_000, 20_000), HubTalk: 2_000, OrderMillis: 250, ProposeMillis: 1_000, CheckMillis: 5_000, MeetMillis: 20_000, ApplyMillis: pick(50, 500, 5_000), BatchMax: int(pick(1, 8, 64)), BatchBytes: 32 << 10,
		Latency: pick(1, 40, 300, 700), BytesPerSec: pick(2_500, 15_000, 1_000_000), Window: int(pick(1<<10, 8<<10, 64<<10)), Turns: r.IntN(2) == 0,
		NeighboursIn: int(pick(0, 2, 4)), CutIn: int(pick(1, 2, 4)), LieIn: int(pick(0, 3, 6)),
		CrashMillis: pick(0, 6_000, 20_000), HubCrashIn: int(pick(2, 4)), WriteCrashIn: int(pick(1, 2)), ForgetIndexIn: int(pick(1, 2)),
		RestoreMillis: pick(0, 4_000, 15_000), SplitMillis: pick(0, 20_000), ClockMillis: pick(0, 10_000), AgainIn: int(pick(0, 5)), JunkIn: int(pick(0, 12)),
	}
	p.Fields = r.IntN(2)
	if r.IntN(8) == 0 {
		p.Clinics = 8
	}
	return p
}

// every has something happen again and again during the safety phase.
func (w *world) every(ms int64, what func() error) {
	if ms == 0 {
		return
	}
	w.after(w.between(1, 2*ms), func() error {
		if !w.safety {
			return nil
		}
		if err := what(); err != nil {
			return err
		}
		w.every(ms, what)
		return nil
	})
}

// schedule starts everything that goes on by itself.
func (w *world) schedule() {
	p := &w.plan
	for i, c := range w.clinics {
		if i < p.Clinics {
			w.every(p.SaveMillis, func() error { return w.saveSome(c) })
		}
		w.every(p.VisitMillis, func() error { return w.visit(c) })
	}
	w.every(p.ImportMillis, w.importSome)
	w.every(p.ParcelMillis, w.mail)
	w.every(p.CrashMillis, w.crashSome)
	w.every(p.RestoreMillis, w.oldCard)
	if p.Equivocate {
		w.every(p.BranchMillis, w.branch)
		w.forever(2_000, w.exposeAll)
	}
	w.every(p.CloneMillis, w.cloneSome)
	w.every(p.AssignMillis, w.assignSome)
	w.every(p.HubCardMillis, w.oldHubCard)
	w.every(p.RevokeMillis, w.revokeSome)
	w.every(p.EraseMillis, w.eraseSome)
	if w.o.Hooks.Contradict {
		w.every(10_000, func() error { return w.contradict(w.clinics[0]) })
	}
	w.every(p.SplitMillis, w.split)
	w.every(p.ClockMillis, w.jump)
	w.every(p.CheckMillis, w.checkSome)
	w.every(p.MeetMillis, w.meetSome)
	w.forever(p.HubTalk, w.hubTalk)
	w.forever(p.OrderMillis, w.order)
	w.forever(p.ProposeMillis, w.propose)
}

// forever is every in both phases.
func (w *world) forever(ms int64, what func() error) {
	w.after(w.between(1, 2*ms), func() error {
		if err := what(); err != nil {
			return err
		}
		w.forever(ms, what)
		return nil
	})
}
