package sim

// Invariants besides those of the engine, by what they say.
const (
	DurableFirst    = "nothing leaves a box before it is on its disk"
	ClockBounded    = "a clock that is ahead moves nobody's beyond the bound"
	RevokedOut      = "a device that was revoked gets no place in the ledger"
	QuarantineKeeps = "what a revoked device wrote stays where it arrived"
	UnknownPasses   = "records of kinds that nobody knows pass unchanged"
	ErasedGone      = "a body that a box's ledger erased is neither held nor served nor taken by it"
	ClockForward    = "of two records of a lane the later one has the later clock"
)

// Invariant is one of the promises that docs/RELIABILITY.md lists, with what
// holds it.
type Invariant struct {
	N      int
	Says   string
	Checks []string // of this package
	Tests  []string // elsewhere, where one box or one function is the better place: folder and test
}

// Invariants are all of them, by number.
var Invariants = []Invariant{
	{1, "A record shown as saved survives any crash after the save returned", []string{SavesSurvive, BoxOpens}, nil},
	{2, "No byte of a record leaves a process before its transaction is durable", []string{DurableFirst}, []string{"store TestUnsyncedIsInvisible"}},
	{3, "Feeds are contiguous and linked on every replica", []string{FeedsContiguous}, nil},
	{4, "Two process starts never share an epoch", []string{EpochsUnshared}, nil},
	{5, "After a restore a device gets its own records back from whoever holds them", []string{OwnComesBack}, nil},
	{6, "An old card or a copied one makes no evidence", []string{CardsBlameNobody, SavesSurvive}, nil},
	{7, "A device that signs twice is exposed once both branches meet, and no body of either is lost", []string{TwiceExposed, BranchesKept}, nil},
	{8, "Two hubs at one index have the same size, root and answers", []string{SameIndexSameRoot}, nil},
	{9, "A record has at most one leaf, however often it is submitted", []string{OneLeaf}, nil},
	{10, "Applied index, leaves, indexes and tree move together", []string{ApplyRepeats, ReplicaVerifies}, []string{"store TestEveryJournalOperationFails"}},
	{11, "A hub never signs two roots for a size nor a smaller size, nor votes by a rolled-back disk", []string{SignsUpward, AgreedStays}, []string{"raftlog TestImages", "store TestCosignatureIsNotedFirst"}},
	{12, "Final checkpoints are consistent while fewer than a majority of the hubs lie", []string{FinalOrdered, CheckpointsAgree}, nil},
	{13, "With a lying majority any two boxes that meet can prove it, to anybody", []string{ViewsExposed, EvidencePortable, FrozenStays, HonestUnblamed}, nil},
	{14, "What is shown as confirmed has a verified place, for ever", []string{ConfirmedHasPlace, GarbageInert, PrefixOfHubs}, nil},
	{15, "A promise that was not kept can be proven to a third party", []string{PromisesProven}, nil},
	{16, "Partial and full replicas come to the same roots and take the same checkpoints", []string{PartSameRoot, PrefixOfHubs}, []string{"store TestSpansThatDoNotFit"}},
	{17, "A partial replica knows which entry before one that it holds is missing", []string{PartKnowsHoles}, nil},
	{18, "An exchange ends, both hold the union, and a second one transfers nothing", []string{SyncTerminates}, nil},
	{19, "A cut loses at most a frame of what arrived, and 1.1 times the bytes and a greeting a cut (long exchanges; 1.25 in short ones; what a slow link has under way besides, see [BENCHMARKS.md](BENCHMARKS.md))", nil, []string{"sync TestHundredCuts", "sync TestCutAnywhere"}},
	{20, "What is doubled, reordered, cut short or flipped is refused or changes nothing", []string{GarbageInert, HonestUnblamed, FeedsContiguous}, []string{"sync TestParcelDamaged"}},
	{21, "An urgent record waits for no more than a window of bulk", nil, []string{"sync TestUrgentOvertakesBulk"}},
	{22, "Attachments never delay records", nil, []string{"sync TestBlobsTravel"}},
	{23, "A metered link stays within its budget, but for what is urgent", nil, []string{"sync TestBudgetKeepsTheLink"}},
	{24, "No peer is given a body outside of its profile", []string{PartNoMore}, []string{"sync TestPartialPeerGetsNoMore"}},
	{25, "An erased body is stored, served and taken by nobody", []string{ErasedGone}, []string{"node TestEraseChart"}},
	{26, "What a device wrote never gets a place behind its revocation, and is not lost", []string{RevokedOut, QuarantineKeeps}, nil},
	{27, "Amendments that did not know of each other are all shown until one resolves them", []string{HeadsKept}, nil},
	{28, "The same records give the same chart, byte for byte", []string{SameChart}, []string{"chart TestOrderedHeadsStandBySeqWhateverTheClock"}},
	{29, "Taking back that two persons are one restores both views", nil, nil},
	{30, "A chart is shown after the line that says so is durable", nil, []string{"node TestNothingIsShownBeforeItsLineIsDurable"}},
	{31, "A clock that is ahead moves nobody's beyond the bound; later in a lane has the later clock", []string{ClockBounded, ClockForward, FeedsContiguous}, nil},
	{32, "A wrap opens one generation of a key, for its recipient alone", nil, []string{"seal TestWrapIsBoundToWhatItSays", "seal TestWrapOpensForItsRecipientOnly"}},
	{33, "Losing a minority of the hubs loses nothing ordered, losing all nothing that a clinic holds", nil, []string{"raftlog TestResetKeepsTheTail", "raftlog TestKillLeaderUnderLoad", "test/e2e TestMajorityLost", "test/e2e TestEveryHubLost"}},
	{34, "Records of unknown kinds pass byte for byte; releases N and N-1 converge", []string{UnknownPasses}, nil},
	{35, "A session holds a bounded amount of memory for any peer", nil, []string{"sync TestHostilePeerIsBounded"}},
}

// Missing are invariants of what the product does not do: nothing holds them.
var Missing = map[int]string{
	29: "no person is linked to another yet",
}
