package record

import (
	"encoding/hex"
	"fmt"
)

// RID names a record: SHA-256 over its core.
type RID [32]byte

// EpochID names one process start of a device: the first 16 bytes of the rid of
// its opening record, so nobody can claim one in advance.
type EpochID [16]byte

// CompartmentID names one unit of encryption and replication: 16 random bytes,
// zero for records that belong to none.
type CompartmentID [16]byte

// DeviceID is a device's Ed25519 public key.
type DeviceID [32]byte

// RegionID names a region: the rid of its founding record.
type RegionID [32]byte

func (r RID) String() string           { return hex.EncodeToString(r[:]) }
func (e EpochID) String() string       { return hex.EncodeToString(e[:]) }
func (c CompartmentID) String() string { return hex.EncodeToString(c[:]) }
func (d DeviceID) String() string      { return hex.EncodeToString(d[:]) }
func (r RegionID) String() string      { return hex.EncodeToString(r[:]) }

// Short is enough of a rid for a person to tell records apart.
func (r RID) Short() string { return hex.EncodeToString(r[:6]) }

// Short is enough of a device id for a person to tell boxes apart.
func (d DeviceID) Short() string { return hex.EncodeToString(d[:6]) }

func (c CompartmentID) IsZero() bool { return c == CompartmentID{} }

// ParseRID reads 64 hexadecimal digits.
func ParseRID(s string) (RID, error) {
	var r RID
	return r, parseHex(r[:], s, "record id")
}

// ParseCompartmentID reads 32 hexadecimal digits.
func ParseCompartmentID(s string) (CompartmentID, error) {
	var c CompartmentID
	return c, parseHex(c[:], s, "compartment id")
}

// ParseDeviceID reads 64 hexadecimal digits.
func ParseDeviceID(s string) (DeviceID, error) {
	var d DeviceID
	return d, parseHex(d[:], s, "device id")
}

// ParseRegionID reads 64 hexadecimal digits.
func ParseRegionID(s string) (RegionID, error) {
	var r RegionID
	return r, parseHex(r[:], s, "region id")
}

func parseHex(dst []byte, s, what string) error {
	if len(s) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("reading %s: want %d hexadecimal digits, got %d characters", what, hex.EncodedLen(len(dst)), len(s))
	}
	if _, err := hex.Decode(dst, []byte(s)); err != nil {
		return fmt.Errorf("reading %s: not hexadecimal", what)
	}
	return nil
}

// Lane is one of the four chains of an epoch, most urgent first.
type Lane uint8

const (
	LaneControl  Lane = 0 // control and urgent
	LaneClinical Lane = 1
	LaneAudit    Lane = 2
	LaneBulk     Lane = 3
	LaneCount         = 4
)

// Kind says what class of record this is, never what it says about a patient.
// Kinds below KindSealed have a readable body that every replica can replay.
type Kind uint16

const (
	KindEpochOpen    Kind = 1
	KindRegionFound  Kind = 2
	KindMemberAdd    Kind = 3
	KindMemberRevoke Kind = 4
	KindSessionOpen  Kind = 5
	KindKeyWrap      Kind = 6
	KindAttest       Kind = 7  // size and root that a member has verified
	KindEvidence     Kind = 8  // Evidence that somebody contradicted himself
	KindRecovery     Kind = 9  // the keys that may reset the region
	KindReset        Kind = 10 // begins a new generation of the ledger
	KindAssign       Kind = 11 // what a device's replica holds
	KindDictionary   Kind = 12 // a Dictionary that bodies may be packed with
	KindRules        Kind = 13 // a vote for what is allowed in the region
	KindErase        Kind = 14 // has the bodies of a compartment, or of one record, erased
	KindErased       Kind = 15 // a box attests that it has done so
	KindEscrow       Kind = 16 // a vote for the key that sheets on paper recover charts with
	KindEscrowUse    Kind = 17 // a chart was opened with such sheets
	KindInviter      Kind = 18 // a vote that a clinic may invite field devices
	KindInvite       Kind = 19 // such an invitation

	KindSealed       Kind = 32 // first kind with a sealed body
	KindClinical     Kind = 32
	KindRegistration Kind = 33
	KindDirectory    Kind = 34 // places, people and medicines that belong to no patient
	KindAccess       Kind = 35
	KindStaff        Kind = 36
	KindConsent      Kind = 37 // who may read, as a patient decided
	KindBreakGlass   Kind = 38 // that a chart was opened in an emergency, and that this was looked into
	KindCard         Kind = 39 // a patient's card, or the end of one
)

// Sealed reports whether records of this kind carry a sealed body.
func (k Kind) Sealed() bool { return k >= KindSealed }

// Feed is one hash-chained run of records.
type Feed struct {
	Epoch EpochID
	Lane  Lane
}

// Position is a record's place in its feed. n counts from 1; 0 in lane 0 is the
// opening record of the epoch.
type Position struct {
	Epoch EpochID
	Lane  Lane
	N     uint64
}

// Feed drops the n.
func (p Position) Feed() Feed { return Feed{p.Epoch, p.Lane} }

// Head is the last record known of a feed: n 0 and the opening record's rid
// when the feed has none yet.
type Head struct {
	N   uint64
	RID RID
}

// FeedHead is a feed with how far it reaches: one element of a frontier.
type FeedHead struct {
	Feed
	N uint64
}

// DirectoryCompartment is the compartment of what belongs to no patient:
// SHA-256("hp:directory:1\0" || region), first 16 bytes.
func DirectoryCompartment(r RegionID) CompartmentID {
	sum := hashBody(append([]byte("hp:directory:1\x00"), r[:]...))
	return CompartmentID(sum[:16])
}
