package web

import (
	"context"
	"errors"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
)

// Clinic is everything the page asks of the box.
//
// Every method may be called concurrently. A method that stores something returns nil only
// when the record is durable on this box (synced to disk), because the page then says "Saved here".
// The page passes values through as typed, with digits and decimal signs normalised; the box
// validates again. Ids of patients and records are lower-case hexadecimal text; an id of
// another form is answered with ErrNotFound, never with a panic.
//
// A session that has ended or expired is answered with ErrNotSignedIn by every method that takes one.
type Clinic interface {
	// Box describes this box. It is called for each page and must not touch the disk for long.
	Box(ctx context.Context) Box
	// Counts gives the numbers of the sync line. It is called for each page, signed in or not.
	Counts(ctx context.Context) Counts

	// Staff lists who may sign in at this box, sorted by name.
	Staff(ctx context.Context) ([]StaffTile, error)
	// AddStaff adds a member. by is nil only for the first one; with by nil and a member
	// already present the answer is ErrRefused.
	AddStaff(ctx context.Context, by *Session, staff NewStaff) error
	// EndStaff ends a member's account on this box and every session of it; what they wrote stays.
	// Nobody ends the last account that may add others: ErrLastStaff. Errors: ErrNotFound, ErrRefused.
	EndStaff(ctx context.Context, by Session, staffID string) error
	// SignIn starts a session and returns its opaque token (at least 128 random bits, URL-safe text).
	// It needs no network. Errors: ErrWrongPIN, *LockedError. Counting wrong tries is the box's task.
	SignIn(ctx context.Context, staffID, pin string) (token string, err error)
	// Session returns the session of a token and counts as activity for the idle lock.
	Session(ctx context.Context, token string) (Session, error)
	// Peek is Session without counting as activity: the live badges ask it, so that an open
	// page does not keep a session from locking.
	Peek(ctx context.Context, token string) (Session, error)
	// SignOut ends a session; an unknown token is not an error.
	SignOut(ctx context.Context, token string)

	// Ask asks the rules whether somebody may do something, by its name in Rights, to a patient when it is
	// about one: nil, or ErrRefused, which leaves an access record.
	Ask(ctx context.Context, s Session, right, patientID string) error

	// Today returns the lists of the first page. With names in it an access record is durable before it returns.
	Today(ctx context.Context, s Session) (Today, error)
	// Find returns at most 20 patients, best match first. An empty query returns none. The access record, of
	// who searched and never of what, is durable before it returns.
	Find(ctx context.Context, s Session, query string) ([]PatientRow, error)
	// Register stores a new patient. The same formID and content again returns the first
	// answer and stores nothing; the same formID with other content returns ErrFormUsed.
	Register(ctx context.Context, s Session, formID string, r fhir.Registration) (patientID string, err error)
	// Open returns a patient's chart. The access record is durable before Open returns.
	Open(ctx context.Context, s Session, patientID string) (PatientView, error)
	// SaveVisit stores one visit as one record. Soft limits were already confirmed by the staff
	// member; hard limits are refused with a *FieldsError. formID as in Register.
	SaveVisit(ctx context.Context, s Session, patientID, formID string, v fhir.Visit) (Saved, error)
	// Attach keeps a photo or document for a visit form that is not saved yet, durable on return:
	// SaveVisit of the same form stores it with the visit. The same content twice is kept once.
	// Errors: ErrFileType, ErrFileTooLarge, ErrFilesMax.
	Attach(ctx context.Context, s Session, patientID, formID, name string, content []byte) error
	// Attached lists what is kept for a form, in the order in which it came.
	Attached(ctx context.Context, s Session, formID string) ([]Attachment, error)
	// Detach takes one of them away again; an unknown id changes nothing.
	Detach(ctx context.Context, s Session, formID, id string) error
	// File opens an attachment of a chart. The access record is durable before File returns. With a
	// part of it missing on this box Content is nil, and the box asks others for it from now on.
	File(ctx context.Context, s Session, patientID, id string) (File, error)
	// AmendPatient stores new details in place of the versions in base. With base holding
	// all heads it resolves a conflict. Versions that are not in base and arrived meanwhile
	// stay heads: the answer is then still nil and the chart shows the conflict. formID as in Register.
	AmendPatient(ctx context.Context, s Session, patientID, formID string, r fhir.Registration, base []chart.Ref) error
	// Retract withdraws one item of one record, with a reason that is kept. formID as in Register.
	// ref may name any item of a visit; the whole visit's items are withdrawn when it names its Encounter.
	Retract(ctx context.Context, s Session, patientID, formID string, ref chart.Ref, reason string) error

	// Erase has a chart erased on every box, or with x.Record one record of it: its bodies and keys go,
	// that it was there stays. It holds once the region has taken it. A second person of this box agrees
	// with a PIN: ErrWrongPIN, *LockedError. The access record is durable before. Errors: ErrNotFound,
	// ErrRefused, *ErasedError when it is erased already.
	Erase(ctx context.Context, s Session, patientID string, x Erasure) error

	// Looks lists who looked at a patient's chart, newest first, refused tries included, from every
	// box whose access records came. The access record of reading it is durable before it returns.
	Looks(ctx context.Context, s Session, patientID string) (LooksPage, error)

	// Emergency is the summary of a chart that is closed to this session, while it is open to it, and what
	// BreakGlass needs otherwise. The access record is durable before it returns. Errors: ErrChartOpen.
	Emergency(ctx context.Context, s Session, patientID string) (EmergencyPage, error)
	// BreakGlass opens it to this session for EmergencyHours, once a record with both persons and the reason,
	// and the access record, are durable. Errors: ErrWrongPIN and *LockedError of the second person, as in
	// SignIn, ErrSecondPerson, ErrChartOpen, ErrReason. formID as in Register: later it opens nothing.
	BreakGlass(ctx context.Context, s Session, patientID, formID string, g BreakGlass) error
	// Emergencies lists what BreakGlass opened, in this region as far as this box knows, that nobody looked
	// into yet, oldest first. The access record of reading it is durable before it returns.
	Emergencies(ctx context.Context, s Session) (EmergenciesPage, error)
	// ReviewEmergency notes that somebody looked into one, which is a record. ErrOwnEmergency for one of the
	// two persons in it, ErrReason without a note.
	ReviewEmergency(ctx context.Context, s Session, rid, formID, note string) error

	// Consents lists what a patient decided about who may read, what ended with it. The access record of
	// reading it is durable before it returns.
	Consents(ctx context.Context, s Session, patientID string) (ConsentPage, error)
	// Decide writes down what a patient decided, after who is signed in gave their PIN again. formID as in
	// Register. Errors: ErrWrongPIN, *LockedError, ErrNotFound when the box or the decision is not there.
	Decide(ctx context.Context, s Session, patientID, formID string, d Decision) error
	CardDesk

	// GiveTo gives a patient to a field device of PatientView.Devices, which may then open the chart, or takes
	// it back. It holds once the region has taken it; what is so already is not stored again. ErrRefused on a
	// box that assigns nothing.
	GiveTo(ctx context.Context, s Session, patientID, deviceID string, give bool) error

	// SyncPage returns the state of every link and of the box, in plain numbers.
	SyncPage(ctx context.Context, s Session) (SyncPage, error)
	// SyncNow wakes the exchange with every peer and returns without waiting for it.
	SyncNow(ctx context.Context, s Session) error
	// SeenFault notes that a person has read a fault that need not last (see FaultEnds); it is not
	// shown again until it happens again. Other codes are answered with ErrRefused, unknown ones with nil.
	SeenFault(ctx context.Context, s Session, code string) error

	// Sticks lists the sticks that are plugged in with the parcels on them, for whom one can be
	// written, and what was done last. Nothing is written to them.
	Sticks(ctx context.Context, s Session) (SticksPage, error)
	// ReadStick begins to take in a parcel, WriteStick to write one: for the box with that id, for
	// all boxes ("*") or for the hubs (""). Both return at once; Sticks tells how far it is. Errors:
	// ErrNotFound when the stick, the file or the box is not there, ErrStickBusy.
	ReadStick(ctx context.Context, s Session, stick, file string) error
	WriteStick(ctx context.Context, s Session, stick, to string) error

	// Proof returns what the printed proof of one record needs. The access record of printing is
	// durable before it returns. Errors: ErrNotFound, ErrNotConfirmed while the record has no place
	// under a final checkpoint that this box verified.
	Proof(ctx context.Context, s Session, rid string) (ProofPage, error)
	// RootSheet returns the region's root of this week for paper; ErrNotConfirmed when this box has
	// verified no final checkpoint yet.
	RootSheet(ctx context.Context, s Session) (RootPage, error)

	// Watch returns a one-slot signal: a value arrives after any state, count or link changed;
	// several changes may give one value. The channel is closed after ctx ends.
	Watch(ctx context.Context) <-chan struct{}
	// States returns the state of each record named by its full id in hexadecimal. Unknown ids
	// and records of patients this session may not open are left out. At most 200 ids are asked at once.
	States(ctx context.Context, s Session, rids []string) (map[string]chart.State, error)
}

// What a method may answer besides nil. The page explains each in words; any other
// error is shown as "this did not work, nothing was saved" and logged with its text.
var (
	// ErrNotSignedIn: the session is missing, ended or expired. The page asks for the PIN.
	ErrNotSignedIn = errors.New("not signed in")
	// ErrWrongPIN: no such staff member or another PIN; the page does not tell which.
	ErrWrongPIN = errors.New("wrong pin")
	// ErrNotFound: this box holds no such patient, record or item, or this session may not know of it.
	ErrNotFound = errors.New("not found")
	// ErrRefused: a policy forbids it to this session.
	ErrRefused = errors.New("refused by policy")
	// ErrNotConfirmed: there is nothing to prove yet, because no final checkpoint covers it.
	ErrNotConfirmed = errors.New("not in the regional record yet")
	// ErrNotReady: the box joined a region whose keys are on their way. Nothing was saved.
	ErrNotReady = errors.New("the region's keys are not here yet")
	// ErrReadOnly: the disk is nearly full. Nothing was saved; reading goes on.
	ErrReadOnly = errors.New("box is read-only: disk nearly full")
	// ErrFault: a write or sync failed. Nothing was saved and the box takes no more writes.
	ErrFault = errors.New("disk fault")
	// ErrFileType: not a photo or document of a kind that is taken.
	ErrFileType = errors.New("not a type of file that is taken")
	// ErrFileTooLarge: larger than FileBytesMax.
	ErrFileTooLarge = errors.New("file too large")
	// ErrFilesMax: the form has as many files as it may have.
	ErrFilesMax = errors.New("too many files")
	// ErrStickBusy: something is read from a stick or written to one already.
	ErrStickBusy = errors.New("a stick is in use")
	// ErrLastStaff: without this account nobody could add staff here.
	ErrLastStaff = errors.New("the last account that may add staff: add another first")
	// ErrChartOpen: the whole chart is open to this session: there is no emergency to declare.
	ErrChartOpen = errors.New("the chart is open to who asks")
	// ErrSecondPerson: the second person of an emergency is the first, or not of this box's staff.
	ErrSecondPerson = errors.New("not a second person")
	// ErrReason: a reason or note that is too short or too long.
	ErrReason = errors.New("a reason of another length is needed")
	// ErrOwnEmergency: nobody looks into what they did themselves.
	ErrOwnEmergency = errors.New("one's own emergency")
	// ErrFormUsed: this form id was already saved with other content. Nothing was saved now.
	ErrFormUsed = errors.New("form id already used with other content")
)

// LockedError is SignIn's answer after too many wrong PINs.
type LockedError struct {
	Until time.Duration // from now until the next try is taken
}

func (e *LockedError) Error() string { return "sign in locked for " + e.Until.String() }

// FieldsError carries hard field errors found by the box; the page shows the form again with them.
type FieldsError struct {
	Fields []fhir.FieldError
}

func (e *FieldsError) Error() string { return "form refused by validation" }

// Box is what a page says about the box it comes from.
type Box struct {
	Name            string   // "Kibuye clinic"
	Role            string   // clinic, hub, field or standalone
	Region          string   // name of the region
	NeedsFirstStaff bool     // no staff member exists: the page asks for the first
	Version         string   // version of the program
	Languages       []string // the box's languages, first choice first: "en", "fr"
	ReadOnly        bool     // no room left: a line on every page says that nothing can be saved
	Stick           bool     // something is plugged in that records can be carried on
	Faulted         bool     // a disk fault stopped writing: likewise
	Faults          []Fault  // what every page warns of, in any order; SyncPage lists these too
	Locked          bool     // its keys are locked: nothing but its name is shown
}

// Counts are numbers of this box's own records by state; confirmed counts the whole region's ledger as verified here.
type Counts struct {
	Pending        int  // on this box only
	Shared         int  // another device holds them durably; no final place yet
	Confirmed      int  // ledger size under the newest checkpoint this box verified
	Refused        int  // not accepted, still shown until a person has dealt with them
	OnlyHere       int  // no device elsewhere acknowledged holding them; at least Pending
	VisitsOnlyHere int  // visits among OnlyHere
	FilesOnlyHere  int  // photos and documents of saved forms that no other device is known to hold
	Absent         int  // entries of the regional record that are not on this box
	Mobile         bool // the box is carried about: "only here" is on this device, not in this building
}

// StaffTile is one name to tap at sign in.
type StaffTile struct {
	ID       string
	Name     string
	Initials string // at most 3 letters
	Roles    []string

	LockNumber int // that opens a locked box together with the PIN, 0 where there is none
}

// NewStaff is a member to add. PIN is 6 ASCII digits; it is never logged or put in an error.
type NewStaff struct {
	Name string
	PIN  string
	Role string // roles separated by commas; "" means a nurse, and the first member administers the box too
}

// Session is one staff member signed in at this box.
type Session struct {
	Token     string
	StaffID   string
	StaffName string
	May       Rights // what the rules let this person do here; the box asks them again at every step
	Language  string // "" means the box's first language
	Operator  bool   // who runs the box, by its commands: no member of staff, and no page is opened with it
}

// Rights are the actions that somebody may take at this box, by their names in the rules.
type Rights map[string]bool

// The rights that the page asks for before it shows a form or a link.
const (
	MayIdentify = "identify"
	MayView     = "view"
	MayWrite    = "write"
	MayAmend    = "amend"
	MayRetract  = "retract"
	MayGive     = "give"
	MayReview   = "review"
	MayConsent  = "consent"
	MayErase    = "erase"
	MayFind     = "find"
	MayRegister = "register"
	MayProve    = "prove"
	MayCarry    = "carry"
	MayStaff    = "staff"

	MayEmergency = "emergency"
	MayOversee   = "oversee"
)

// Today is the first page after sign in.
type Today struct {
	Waiting []Waiting  // urgent first, then longest waiting; at most 50
	Recent  []VisitRow // newest first; at most 20
	Sealed  int        // entries written here meanwhile that are sealed under keys which the box does not have
	Counts  Counts

	// Emergencies that nobody looked into yet, for who oversees them; Late when one waits too long.
	Emergencies int
	Late        bool
}

// Waiting is one person registered here today and not seen yet, or marked urgent today.
type Waiting struct {
	PatientID string
	Row       chart.Row
	Urgent    bool
	Since     time.Time
}

// VisitRow is one visit in a list.
type VisitRow struct {
	PatientID string
	Row       chart.Row
	RID       string // of the visit's record, full hexadecimal
	At        time.Time
	Problem   string // the problem's catalogue code or the words typed
	Urgent    bool
	State     chart.State
}

// PatientRow is one found patient.
type PatientRow struct {
	ID    string // compartment, hexadecimal
	Row   chart.Row
	State chart.State // of the newest record of this patient

	Sealed int // entries that are sealed under keys which the box does not have
}

// PatientView is one opened chart.
type PatientView struct {
	ID    string
	Row   chart.Row
	Chart chart.Chart
	Files map[string]FileState // of the chart's attachments, by id
	// Limited: who looks may see who this is and nothing else of the chart. Emergency: and may open the
	// summary for an emergency, with a reason and a second person.
	Limited, Emergency bool
	// Decided is what the patient decided about this box, where it made the difference: with Limited,
	// that the chart stays closed here; without, that a grant opens it. nil: nothing decided.
	Decided *Decided
	// Devices are the field devices of the region, on a box that may give them patients.
	Devices []FieldDevice
}

// FieldDevice is a worker's device with whether it may open a chart.
type FieldDevice struct {
	ID, Name string
	Has      bool // it may, or will
	Waits    bool // Has was changed here and the region has not taken it yet
}

// Attachment is a photo or document of a form that is not saved yet.
type Attachment struct {
	ID    string // of its content, hexadecimal
	File  fhir.File
	Thumb []byte // JPEG, or nil
}

// File is one opened attachment.
type File struct {
	Type        string   // image/jpeg, image/png, application/pdf, or "" for what is only offered to be kept
	Name        string   // as it came, or ""
	Content     []byte   // nil while it is not whole on this box
	Held, Parts int      // how much of it is here
	From        []string // names of boxes that are connected and asked
}

// FileState is how far an attachment has come.
type FileState struct {
	Held, Parts int      // of it on this box: it can be opened when both are equal
	To          []string // boxes that are known to hold all of it
	Came        bool     // from another box: that none is in To says nothing
}

// FileBytesMax is the largest file that a form takes.
const FileBytesMax = 10 << 20

// Saved is the answer to a stored visit.
type Saved struct {
	RID   string // full hexadecimal
	State chart.State
}

// SyncPage is what the box knows of its links and itself.
type SyncPage struct {
	Counts     Counts
	Peers      []Peer
	Refused    []RefusedRecord
	Faults     []Fault
	Disk       Disk
	Clock      Clock
	Checkpoint time.Time // when the newest checkpoint verified here was made; zero: none yet
	Why        string    // why nothing moves, or not everything: a code of WhyCodes; "" for nothing to say
	NextCall   time.Time // of WhyWaiting
	Usage      Usage
	Missing    Missing
	Carried    int // records of other boxes that this one takes along; it cannot read those it has no key to
}

// Missing is what this box does not hold of the regional record.
type Missing struct {
	Left, Size uint64        // entries that are not here, entries of the record
	Remaining  time.Duration // until they are, by the pace of the last minutes; 0 when that is not known
	Stays      bool          // they are not for this box: it holds a part
}

// Why nothing moves.
const (
	WhyNothing = ""            // nothing to say
	WhyCut     = "cut"         // the links of this box are switched off
	WhyAlone   = "alone"       // it knows no other box
	WhyNoLink  = "no_link"     // nobody answers
	WhyNoHub   = "no_hub"      // no hub answers, but other boxes take copies
	WhyWaiting = "waiting"     // the next call is at NextCall
	WhyLow     = "budget_low"  // little is left of the month's bytes: visits go, the rest waits
	WhyEmpty   = "budget_used" // nothing is left: only what is urgent goes
	WhyFull    = "full"        // this box's disk takes nothing more
	WhyRefused = "refused"     // a hub ends the exchange: it or this box breaks a rule
	WhyForked  = "forked"      // the hub's regional record contradicts the one here
	WhyOrder   = "order"       // other boxes have all of it; the hubs have given it no place yet
)

// WhyCodes lists them.
var WhyCodes = []string{WhyCut, WhyAlone, WhyNoLink, WhyNoHub, WhyWaiting, WhyLow, WhyEmpty, WhyFull, WhyRefused, WhyForked, WhyOrder}

// Usage is what a link that is paid for by its bytes cost this month.
type Usage struct {
	Metered bool
	Month   string // as 2026-11
	Bytes   uint64 // both ways
	Budget  uint64 // 0 for no limit
}

// Link is the state of the way to a peer.
type Link string

const (
	LinkUp     Link = "up"     // an exchange succeeded and the connection stands
	LinkTrying Link = "trying" // connecting now
	LinkDown   Link = "down"   // no way at the moment; records wait
)

// Peer is the other end of a link.
type Peer struct {
	ID          string
	Name        string
	Role        string
	Link        Link
	LastContact time.Time // zero: never
	// ContactUnsure: LastContact was before the last start, by a clock that forgot the time since.
	ContactUnsure bool
	Elsewhere     bool  // what it holds is under another roof than this box
	Sent          int   // records this peer has acknowledged as durable
	Waiting       int   // records it has not acknowledged yet
	Received      int   // records taken from it
	Fault         Fault // zero Code: none
}

// RefusedRecord is a record the region did not take. It stays on screen until a person has dealt with it.
type RefusedRecord struct {
	RID       string
	PatientID string // "" when the record belongs to no patient
	Name      string // the patient's name, or ""
	At        time.Time
	Reason    string // a catalogue code: duplicate, revoked, quarantined, equivocation, or words
}

// Disk is the box's storage.
type Disk struct {
	FreeBytes, TotalBytes int64
}

// Clock is the trust in the box's clock.
type Clock struct {
	Now     time.Time
	Trusted bool   // set by a source since the last start
	Wrong   bool   // it shows a time that is over: Now is a guess
	Source  string // "network time", "hub", "" when not set
}

// SticksPage is what is plugged in.
type SticksPage struct {
	Sticks  []Stick // none while Job is active: a stick in use is left alone
	Targets []StickTarget
	Hubs    bool     // a parcel may be for the hubs
	Job     StickJob // zero Stick: nothing was done since it was plugged in
}

// Stick is one.
type Stick struct {
	Name       string
	FreeBytes  int64
	Files      []StickFile // parcels alone
	Unreadable bool
}

// StickFile is a parcel on a stick.
type StickFile struct {
	Name    string
	Bytes   int64
	Own     bool      // this box writes under that name
	ForHere bool      // this box can open it
	Damaged bool      // it looks like no parcel
	From    string    // the box that wrote it, when it is for here
	AsOf    time.Time // of the regional record that it leads to; zero: none
}

// StickTarget is a box that a parcel may be for.
type StickTarget struct {
	ID, Name string
}

// What became of a job.
const (
	StickRead     = "read"
	StickPartly   = "partly" // the file is damaged or not whole
	StickMended   = "mended" // it is damaged, and what is there twice made up for that
	StickEarly    = "early"  // it ends before its first part is whole
	StickForOther = "for_other"
	StickWrote    = "wrote"
	StickFull     = "full"
	StickPulled   = "pulled"
	StickFailed   = "failed"
)

// StickJob is what is done with a stick, or was done last.
type StickJob struct {
	Stick, File string
	Write       bool
	Active      bool
	Done, Total int64  // bytes; Total 0 while nobody knows
	Result      string // of one that is not active
	From        string
	New, Known  int
	Refused     int
	Waiting     int // left out: something before them is missing here
	Missing     int // parts of the file
	Entries     int // of New, or written: of the regional record
	Records     int // written that wait for their place
	For         []string
}

// ProofPage is the proof of one confirmed record: what the sheet prints, and what only the screen shows.
// Nothing that is printed tells what the record says or whom it is about.
type ProofPage struct {
	RID      string // full hexadecimal
	Seq      uint64 // its place in the regional record, from 0
	Size     uint64 // of the regional record that the hubs signed
	Region   string // name of the region
	RegionID string // full hexadecimal
	Signed   time.Time
	Hubs     []string // names of the hubs whose signatures the proof holds
	Payload  string   // of the QR code: printed.QR, at most ProofPayloadMax bytes

	Box       string // that wrote it; for the screen alone: a clinic's name can tell what somebody was treated for
	PatientID string // likewise; "" when the record belongs to no patient
	Name      string // the patient's name: on paper only in the patient's own copy, when asked
}

// RootPage is the region's root as the weekly sheet prints it.
type RootPage struct {
	Region   string
	RegionID string // full hexadecimal
	Gen      uint64 // generation of the ledger
	Size     uint64 // of the regional record
	Day      string // YYYY-MM-DD, the day the hubs signed it
	Signed   time.Time
	Words    []string // 24, in order
	Line     string   // for SMS; also the payload of the QR code
}
