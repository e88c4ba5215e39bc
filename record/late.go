package record

// Rules grows by one with each release that gives a kind of records an effect on
// members or registry. A replica where other rules computed them computes them anew.
//
//	1  the first release
//	2  votes, evidence, recovery, resets
//	3  assignments and dictionaries
//	4  erasures, rules of the region, escrows, invitations of clinics
const Rules = 4

// Late says whether a release that goes on with today's ledgers did not know the kind:
// it orders such a record, as every kind that it does not know, and computes nothing.
func (k Kind) Late() bool { return k >= KindAssign && !k.Sealed() }
