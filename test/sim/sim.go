package sim

import (
	"container/heap"
	"crypto/sha256"
	"fmt"
	"hash"
	"math/rand/v2"
	"strings"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// The invariants, by what they say.
const (
	SavesSurvive      = "acknowledged saves survive"
	BoxOpens          = "a box opens after any crash"
	FeedsContiguous   = "feeds are contiguous and linked on every replica"
	EpochsUnshared    = "two process starts never share an epoch"
	OneLeaf           = "a record has at most one leaf"
	SameIndexSameRoot = "hubs at one index have one size and root"
	ApplyRepeats      = "applying an item again changes nothing"
	ReplicaVerifies   = "applied index, leaves, indexes and tree move together"
	PrefixOfHubs      = "a ledger is a prefix of the agreed one"
	ConfirmedHasPlace = "what is shown as confirmed has a verified place"
	CopiedIsHeld      = "what a peer acknowledged it holds"
	SyncTerminates    = "an exchange ends and a second one transfers nothing"
	CheckpointsAgree  = "final checkpoints are consistent and never go back"
	GarbageInert      = "what a peer makes up changes nothing"
	HonestUnblamed    = "an honest peer is never blamed"
	SameChart         = "the same records give the same chart"
	HeadsKept         = "amendments that did not know of each other are all heads"
	Converges         = "healed boxes agree within bounded time"
	CardsBlameNobody  = "an old card or a copied one makes no evidence"
	OwnComesBack      = "a box gets back its own records from whoever holds them"
	AgreedStays       = "what a majority of the hubs acknowledged stays agreed"
	TwiceExposed      = "who was handed two records for one place can prove it, and the feed is frozen"
	BranchesKept      = "a record of either branch stays where it arrived"
	FinalOrdered      = "final checkpoints do not exclude each other while fewer than a majority lie"
	ViewsExposed      = "two boxes that were shown two ledgers can both prove it once they met"
	EvidencePortable  = "whoever has the hubs' keys can verify what a box keeps"
	PromisesProven    = "a promise that was not kept can be proven"
	MajorityTime      = "no minority of hubs says what time it is"
	FrozenStays       = "a box that a majority lied to confirms nothing more"
	SignsUpward       = "a hub signs one root for a size and never a smaller size"
	DiskSound         = "a disk without an injected fault does not fail"
	ParcelsRepeat     = "reading a parcel twice changes nothing"
	ParcelsBring      = "who read a whole parcel has what it held"
	PartSameRoot      = "a partial replica comes to the root of a full one"
	PartKnowsHoles    = "a replica knows which entry before one that it holds is missing"
	PartNoMore        = "a partial replica is given nothing outside of its profile"
)

// Scenario is what a seed is about.
type Scenario string

const (
	Region  Scenario = ""        // everything a little, with peers whose bytes are changed on the way
	Cards   Scenario = "cards"   // old and copied cards, nobody lies
	Twice   Scenario = "twice"   // a clinic that signs two records for one place
	Hubs    Scenario = "hubs"    // hubs that lie, alone or together
	Members Scenario = "members" // clinics that are revoked, records of unknown kinds
	Partial Scenario = "partial" // replicas that hold a part of the ledger
	Bulk    Scenario = "bulk"    // hundreds of records in one transaction
	Parcels Scenario = "parcels" // clinics without a link
	Erase   Scenario = "erase"   // charts and records that are erased
	Big     Scenario = "big"     // hundreds of boxes, a month
)

// Scenarios are all of them but Big.
var Scenarios = []Scenario{Region, Cards, Twice, Hubs, Partial, Bulk, Members, Parcels, Erase}

func (x Scenario) String() string {
	if x == Region {
		return "region"
	}
	return string(x)
}

// Options of a run.
type Options struct {
	Dir      string // empty directory for the replicas
	Scenario Scenario
	Hooks    Hooks
	story    bool // the whole trace is kept
	Less     Less // left out of what the seed draws
}

// Hooks break the simulator's glue for the tests of its invariants. The zero
// value breaks nothing.
type Hooks struct {
	ApplyTwice    bool // hubs sometimes count one item of the log as two
	SyncLies      bool // the disks of clinics report syncs that did not happen
	AckEarly      bool // clinics tell staff that a save is done a second before it is written
	DropRecord    bool // one record in eight that a peer sends is acknowledged and not kept
	SignAnything  bool // a hub cosigns a head with a root that is not its own
	OneIsMajority bool // boxes take a checkpoint that one hub cosigned for final
	HideHead      bool // one head of a chart line in conflict is left out
	SwapItems     bool // a hub applies two neighbouring items in the other order

	SameNonce     bool // epochs begin with the same nonce, clock and predecessor every time
	Contradict    bool // a clinic signs a second record for a place
	HideOwn       bool // nobody hands a box its own records
	VoteAnyway    bool // a hub with an old card votes by what that card holds
	KeepQuiet     bool // boxes make and pass on no evidence
	NewestTime    bool // a checkpoint is of the latest time that any of its hubs claims
	ForgetBranch  bool // boxes do not keep what they refused
	NoFreeze      bool // boxes go on confirming after a majority lied
	NewestPromise bool // boxes forget a promise when they get the next one
	BelieveAll    bool // boxes keep evidence that does not verify

	SignOld bool // a hub with an old card signs by what that card says it signed
}

// Result is what a run came to.
type Result struct {
	Trace       [32]byte // hash over every line of the trace
	Events      int
	Seconds     int64 // virtual
	Boxes       int
	Saves       int // acknowledged
	Size        uint64
	Applied     uint64 // entries that replicas took, each on its own
	Crashes     int
	Restores    int
	HubRestores int // of them of hubs
	Clones      int
	Lies        int
	Evidence    int // pieces taken by boxes
	Exposed     int // meetings of two views
	Promises    int // broken ones proven
	Sessions    int
	Parcels     int // written
	Heads       int // most heads that one line had
	Bytes       uint64
}

// Add counts another run in.
func (r *Result) Add(o Result) {
	r.Events, r.Seconds, r.Boxes, r.Bytes = r.Events+o.Events, r.Seconds+o.Seconds, r.Boxes+o.Boxes, r.Bytes+o.Bytes
	r.Saves, r.Size, r.Applied, r.Sessions = r.Saves+o.Saves, r.Size+o.Size, r.Applied+o.Applied, r.Sessions+o.Sessions
	r.Crashes, r.Restores, r.HubRestores, r.Clones = r.Crashes+o.Crashes, r.Restores+o.Restores, r.HubRestores+o.HubRestores, r.Clones+o.Clones
	r.Parcels, r.Lies, r.Evidence, r.Exposed, r.Promises, r.Heads = r.Parcels+o.Parcels, r.Lies+o.Lies, r.Evidence+o.Evidence, r.Exposed+o.Exposed, r.Promises+o.Promises, max(r.Heads, o.Heads)
}

func (r Result) String() string {
	return fmt.Sprintf("%d boxes, %d s, %d events, %d sessions, %d parcels, %d kB, %d saves, size %d, %d applied, %d crashes, %d restores (%d of hubs), %d clones, %d lies, %d evidence, %d exposed, %d promises, %d heads, trace %x",
		r.Boxes, r.Seconds, r.Events, r.Sessions, r.Parcels, r.Bytes>>10, r.Saves, r.Size, r.Applied, r.Crashes, r.Restores, r.HubRestores, r.Clones, r.Lies, r.Evidence, r.Exposed, r.Promises, r.Heads, r.Trace[:8])
}

// Violation is an invariant that did not hold.
type Violation struct {
	Seed      uint64
	Scenario  Scenario
	Invariant string
	What      string
	At        int64    // virtual milliseconds
	Saves     int      // until then
	Tail      []string // the end of the trace
}

func (v *Violation) Error() string {
	return fmt.Sprintf("seed %d at %d ms: %s: %s\n%s", v.Seed, v.At, v.Invariant, v.What, strings.Join(v.Tail, "\n"))
}

// world is one run.
type world struct {
	o      Options
	seed   uint64
	rng    *rand.Rand
	plan   plan
	now    int64 // virtual milliseconds since the start
	queue  events
	pushed uint64
	safety bool // the first phase
	full   bool // the last checks, which sample nothing
	res    Result

	sum   hash.Hash
	tail  []string
	story []string // all of the trace

	region    record.RegionID
	boxes     []*box // hubs first
	hubs      []*box
	clinics   []*box
	links     map[[2]int]*link
	cutOff    map[[2]int]bool // partitioned pairs
	leader    *box
	settled   bool // the leader has applied what was agreed before it led
	log       []item
	marks     map[record.Feed]uint64 // of the leader: proposed up to n
	model     *model
	authored  map[record.RID]*authored
	epochs    map[record.EpochID]string // by whom, at which start
	signed    map[uint64]record.Hash
	images    int // cards copied
	clones    int
	twice     *twice                   // nil where no clinic contradicts itself
	published map[record.Feed]int      // evidence put into the ledger, by which start of a hub
	gang      *gang                    // nil where no hub lies
	sticks    *sticks                  // nil where nothing goes by parcel
	parts     *parts                   // nil where every replica holds everything
	guilty    map[record.DeviceID]bool // who may be blamed
	given     []given                  // promises
	late      error                    // a violation found where no error could be given
	patients  []*patient
	saves     []*save
	digests   map[[32]byte][32]byte
	verified  *store.Verified // signatures that some box checked
	captured  [][]byte        // frames that crossed some link, for liars
	notes     [][]byte        // of them checkpoints, with one cosignature or with all
	repeated  int             // frames with records of the last exchange
	clocks    laneClocks
	members   *members // nil where nobody is revoked
	clocked   int      // entries that clocks has
}

// event is something that happens at a time.
type event struct {
	at, n int64
	what  func() error
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].n < e[j].n
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return x
}

// after has something happen in so many virtual milliseconds.
func (w *world) after(ms int64, what func() error) {
	w.pushed++
	heap.Push(&w.queue, event{w.now + max(ms, 0), int64(w.pushed), what})
}

// verifiedMax is how many signatures the boxes of one run need to check once only.
const verifiedMax = 64 << 10

// Run plays one seed. The error is a *Violation, or the simulator's own trouble.
func Run(seed uint64, o Options) (Result, error) {
	return newWorld(seed, o).finished()
}

// finished plays a run to its end.
func (w *world) finished() (Result, error) {
	err := w.playScenario()
	for _, b := range w.boxes {
		if b.st != nil {
			if closeErr := b.st.Close(); err == nil && closeErr != nil && b.st.Err() == nil {
				err = w.violated(DiskSound, "closing %s: %v", b, closeErr)
			}
		}
	}
	w.res.Trace = [32]byte(w.sum.Sum(nil))
	w.res.Seconds = w.now / 1000
	w.res.Boxes = len(w.boxes)
	w.res.Size = w.model.size()
	return w.res, err
}

func newWorld(seed uint64, o Options) *world {
	w := &world{o: o, seed: seed, rng: rand.New(rand.NewPCG(seed, 0x5eed)), sum: sha256.New(), safety: true, links: map[[2]int]*link{}, cutOff: map[[2]int]bool{},
		marks: map[record.Feed]uint64{}, model: newModel(), authored: map[record.RID]*authored{}, epochs: map[record.EpochID]string{},
		signed: map[uint64]record.Hash{}, guilty: map[record.DeviceID]bool{}, published: map[record.Feed]int{}, digests: map[[32]byte][32]byte{}, clocks: laneClocks{},
		verified: store.NewVerified(verifiedMax)}
	w.model.verified = w.isMade
	w.plan = drawPlan(w.rng)
	switch o.Scenario {
	case Cards:
		w.cardsPlan()
	case Twice:
		w.twicePlan()
	case Hubs:
		w.hubsPlan()
	case Bulk:
		w.bulkPlan()
	case Members:
		w.membersPlan()
		w.members = newMemberships()
	case Parcels:
		w.parcelsPlan()
	case Erase:
		w.erasePlan()
	case Big:
		w.bigPlan()
	case Partial:
		w.partialPlan()
		w.parts = newParts()
	}
	o.Less.apply(&w.plan)
	return w
}

func (w *world) playScenario() error {
	if w.o.Scenario == Hubs {
		return w.playHubs()
	}
	return w.play()
}

func (w *world) play() error {
	w.tracef("plan %+v", w.plan)
	if err := w.found(); err != nil {
		return err
	}
	if w.plan.Equivocate {
		w.twice = &twice{by: w.clinics[0], given: map[*box]map[record.Position]map[record.RID]bool{}}
		w.guilty[w.twice.by.author.Device] = true
	}
	if w.plan.Remote > 0 {
		if err := w.newSticks(); err != nil {
			return err
		}
	}
	w.schedule()
	if err := w.run(w.now+w.plan.SafetyMillis, nil); err != nil {
		return err
	}
	return w.liveness()
}

// run handles events until a virtual time, or until done says so.
func (w *world) run(until int64, done func() (bool, error)) error {
	for len(w.queue) > 0 && w.queue[0].at <= until {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		w.res.Events++
		if err := e.what(); err != nil {
			return err
		}
		if w.late != nil {
			return w.late
		}
		if done != nil && w.res.Events%64 == 0 {
			if ok, err := done(); ok || err != nil {
				return err
			}
		}
	}
	w.now = max(w.now, until)
	return nil
}

const tailLines = 80

func (w *world) tracef(format string, a ...any) {
	line := fmt.Sprintf("%8d ", w.now) + fmt.Sprintf(format, a...)
	w.sum.Write(append([]byte(line), '\n'))
	if len(w.tail) >= 2*tailLines {
		w.tail = append(w.tail[:0], w.tail[tailLines:]...)
	}
	w.tail = append(w.tail, line)
	if w.o.story {
		w.story = append(w.story, line)
	}
}

func (w *world) violated(invariant, format string, a ...any) error {
	tail := w.tail[max(0, len(w.tail)-tailLines):]
	return &Violation{Seed: w.seed, Scenario: w.o.Scenario, Invariant: invariant, What: fmt.Sprintf(format, a...), At: w.now, Saves: w.res.Saves, Tail: append([]string(nil), tail...)}
}

// chance is true once in so many times; never for 0.
func (w *world) chance(in int) bool { return in > 0 && w.rng.IntN(in) == 0 }

// between draws from [from, to].
func (w *world) between(from, to int64) int64 { return from + w.rng.Int64N(to-from+1) }

// isMade says whether an honest box made a record with this signature.
func (w *world) isMade(rid record.RID, sig [64]byte) bool {
	a := w.authored[rid]
	return a != nil && a.r.Sig == sig
}

// randomness feeds what draws bytes from the seed.
type randomness struct{ *rand.Rand }

func (r randomness) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return len(p), nil
}

func (w *world) bytes(n int) []byte {
	p := make([]byte, n)
	randomness{w.rng}.Read(p)
	return p
}
