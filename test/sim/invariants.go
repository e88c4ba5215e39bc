package sim

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
	{2, "No byte of a record leaves a process before its transaction is durable", nil, []string{"store TestUnsyncedIsInvisible"}},
	{3, "Feeds are contiguous and linked on every replica", []string{FeedsContiguous}, nil},
	{4, "Two process starts never share an epoch", []string{EpochsUnshared}, nil},
	{5, "After a restore a device gets its own records back from whoever holds them", []string{OwnComesBack}, nil},
	{6, "An old card or a copied one makes no evidence", []string{CardsBlameNobody}, nil},
	{7, "A device that signs twice is exposed once both branches meet, and no body of either is lost", []string{TwiceExposed, BranchesKept}, nil},
	{8, "Two hubs at one index have the same size, root and answers", []string{SameIndexSameRoot}, nil},
	{9, "A record has at most one leaf, however often it is submitted", []string{OneLeaf}, nil},
	{10, "Applied index, leaves, indexes and tree move together", []string{ApplyRepeats, ReplicaVerifies}, nil},
	{11, "A hub never signs two roots for a size nor a smaller size, nor votes by a rolled-back disk", []string{SignsUpward, AgreedStays}, nil},
	{12, "Final checkpoints are consistent while fewer than a majority of the hubs lie", []string{FinalOrdered, CheckpointsAgree}, nil},
	{13, "With a lying majority any two boxes that meet can prove it, to anybody", []string{ViewsExposed, EvidencePortable, FrozenStays}, nil},
	{14, "What is shown as confirmed has a verified place, for ever", []string{ConfirmedHasPlace}, nil},
	{15, "A promise that was not kept can be proven to a third party", []string{PromisesProven}, nil},
	{16, "Partial and full replicas come to the same roots and take the same checkpoints", []string{PartSameRoot}, nil},
	{17, "A partial replica knows which entry before one that it holds is missing", []string{PartKnowsHoles}, nil},
	{18, "An exchange ends, both hold the union, and a second one transfers nothing", []string{SyncTerminates}, nil},
}
