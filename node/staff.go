package node

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// Staff accounts live on the box where they were made, sealed under its own key;
// a sealed directory record tells the region the name that goes with a staff
// key, so that every chart can say who wrote what.

const (
	pinDigits    = 6
	pinTriesMax  = 5
	pinLock      = 5 * time.Minute // after the first five; twice as long after each five more
	pinLockMax   = time.Hour
	sessionsMax  = 64
	sessionsEach = 8 // of one member: the newest ones
	tokenBytes   = 32
	staffNameMax = 80
	sessionLasts = 12 * time.Hour

	// What accounts of version 1 say instead of roles.
	staffRoleText = "staff"
	adminRoleText = "administrator"
)

// Who is added without a role is a nurse; who is first is also the one that adds others.
var (
	firstRoles = policy.Roles{policy.Nurse, policy.Administrator}
	nextRoles  = policy.Roles{policy.Nurse}
)

// account is one staff member as kept on this box.
type account struct {
	_      struct{} `cbor:",toarray"`
	V      uint8    // 2; 1 had one of two words for a role
	Public []byte   // 32
	Name   string
	Role   string // policy.Roles
	Key    []byte // seal.StaffKey
	Fails  uint8  // wrong PINs in a row
	Locked int64  // Unix seconds of this box's clock until which no PIN is tried
}

// staffEntry is the body of a staff record.
type staffEntry struct {
	_      struct{} `cbor:",toarray"`
	V      uint8
	Public []byte
	Name   string
	Role   string // policy.Roles, "" once the account ended
}

// signedIn is one open session.
type signedIn struct {
	session web.Session
	roles   policy.Roles
	n       uint64 // handle of the session's record (epochs); 0 when it could not be written
	key     ed25519.PrivateKey
	since   time.Time
	used    time.Time
	opened  uint64                 // later sessions have larger ones
	seen    map[seenLook]time.Time // lines made, so that a reload is one look

	glass map[record.CompartmentID]time.Time // when charts were opened in an emergency; guarded by staffRoom.mu
	cards map[record.CompartmentID]cardPass  // that were shown in this session; guarded by staffRoom.mu
	forms []*lentForm                        // with files, filled in by a card; guarded by staffRoom.mu
}

// staffRoom holds the open sessions.
type staffRoom struct {
	idle time.Duration
	now  func() time.Time

	pinMu   sync.Mutex         // one PIN at a time: each costs 64 MiB
	unsaved map[string]account // tries counted while the disk was full, by staff id; guarded by pinMu

	mu   sync.Mutex
	open map[string]*signedIn // by token; guarded by mu

	sessionsEver uint64 // guarded by mu
}

func (r *staffRoom) init(idle time.Duration, now func() time.Time) {
	r.idle, r.now, r.open, r.unsaved = idle, now, map[string]*signedIn{}, map[string]account{}
}

func accountKey(public []byte) []byte {
	return append([]byte("staff/"), hex.EncodeToString(public[:16])...)
}

// rowKey is zero, which seals and opens nothing, while the keys are locked.
func (n *Node) rowKey() seal.Key {
	if n.keys.Local.IsZero() {
		return seal.Key{}
	}
	return seal.Derive(n.keys.Local, "rows")
}

func (n *Node) sealedRow(key, plain []byte) (store.Row, error) {
	v, err := seal.SealRow(rand.Reader, n.rowKey(), key, plain)
	return store.Row{Key: key, Value: v}, err
}

func (n *Node) accounts() ([]account, error) {
	var list []account
	var bad error
	err := n.store.ScanRows([]byte("staff/"), 10_000, func(k, v []byte) bool {
		a, err := n.openAccount(k, v)
		if err != nil {
			bad = err
			return false
		}
		list = append(list, a)
		return true
	})
	return list, errors.Join(err, bad)
}

func (n *Node) openAccount(key, value []byte) (account, error) {
	var a account
	plain, err := seal.OpenRow(n.rowKey(), key, value)
	if err == nil {
		err = record.Unmarshal(plain, &a)
	}
	if err != nil {
		return a, fmt.Errorf("reading a staff account: %w", err)
	}
	return a, nil
}

func (n *Node) putAccount(ctx context.Context, a account) error {
	row, err := n.accountRow(a)
	if err != nil {
		return err
	}
	return n.store.PutRows(ctx, []store.Row{row})
}

func (n *Node) accountRow(a account) (store.Row, error) {
	plain, err := record.Marshal(a)
	if err != nil {
		return store.Row{}, err
	}
	return n.sealedRow(accountKey(a.Public), plain)
}

// Staff lists who can sign in here.
func (n *Node) Staff(context.Context) ([]web.StaffTile, error) {
	list, err := n.accounts()
	if err != nil {
		return nil, err
	}
	numbers, err := n.lockNumbers()
	if err != nil {
		return nil, err
	}
	tiles := make([]web.StaffTile, 0, len(list))
	for _, a := range list {
		roles, err := a.roles()
		if err != nil {
			return nil, err
		}
		tiles = append(tiles, web.StaffTile{ID: a.id(), Name: a.Name, Initials: initials(a.Name), Roles: roleNames(roles), LockNumber: numbers[a.id()]})
	}
	sort.Slice(tiles, func(i, j int) bool {
		if tiles[i].Name != tiles[j].Name {
			return tiles[i].Name < tiles[j].Name
		}
		return tiles[i].ID < tiles[j].ID
	})
	return tiles, nil
}

func initials(name string) string {
	var b strings.Builder
	for i, part := range strings.Fields(name) {
		if i == 3 {
			break
		}
		r, _ := utf8.DecodeRuneInString(part)
		b.WriteString(strings.ToUpper(string(r)))
	}
	return b.String()
}

// AddStaff makes an account and tells the region the name of its key. by is nil
// only for the first member of this box; after that an administrator adds.
func (n *Node) AddStaff(ctx context.Context, by *web.Session, s web.NewStaff) error {
	s.Name = strings.Join(strings.Fields(s.Name), " ")
	if !plainName(s.Name, staffNameMax) {
		return fmt.Errorf("adding staff: a name has 1 to %d bytes", staffNameMax)
	}
	if !pinShape(s.PIN) {
		return fmt.Errorf("adding staff: a PIN has %d digits", pinDigits)
	}
	unlock := n.forms.lock("staff")
	defer unlock()
	list, err := n.accounts()
	if err != nil {
		return err
	}
	if by == nil && len(list) > 0 {
		return web.ErrRefused
	}
	if by != nil && !by.Operator {
		if _, err := n.allow(ctx, *by, policy.Staff, ""); err != nil {
			return err
		}
	}
	roles := nextRoles
	if len(list) == 0 {
		roles = firstRoles
	}
	if s.Role != "" {
		if roles, err = policy.ParseRoles(s.Role); err != nil {
			return fmt.Errorf("adding staff: %w", err)
		}
	}
	return explain(n.addAccount(ctx, n.sessionOf(by), s, roles))
}

// roles is what an account's owner is at this box.
func (a *account) roles() (policy.Roles, error) {
	if a.V == 1 {
		if a.Role == adminRoleText {
			return firstRoles, nil
		}
		return nextRoles, nil
	}
	roles, err := policy.ParseRoles(a.Role)
	if err != nil {
		return nil, fmt.Errorf("reading a staff account: %w", err)
	}
	return roles, nil
}

// RoleNames are the roles that somebody can be added with.
func RoleNames() []string { return roleNames(policy.RoleNames) }

func roleNames(roles policy.Roles) []string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return names
}

// pinShape reports whether the page's keypad can give this PIN.
func pinShape(pin string) bool {
	return len(pin) == pinDigits && strings.Trim(pin, "0123456789") == ""
}

func (n *Node) addAccount(ctx context.Context, session uint64, s web.NewStaff, roles policy.Roles) error {
	key, err := seal.NewStaffKey(rand.Reader, s.PIN, n.o.PIN)
	if err != nil {
		return fmt.Errorf("adding staff: %w", err)
	}
	a := account{V: 2, Public: key.Public[:], Name: s.Name, Role: roles.String(), Key: key.Encode()}
	row, err := n.accountRow(a)
	if err != nil {
		return err
	}
	draft, err := n.staffDraft(session, staffEntry{V: 1, Public: a.Public, Name: a.Name, Role: a.Role})
	if err != nil {
		return err
	}
	rows := append(n.newMemberLock(a.Public, s.PIN), row)
	_, err = n.append(ctx, []store.Draft{draft}, func([]record.Record) ([]store.Row, error) { return rows, nil })
	return err
}

// sealedDraft packs and seals a body into a compartment that exists already, under the key
// that the region has: what boxes must read to keep the rules, and the directory.
func (n *Node) sealedDraft(lane record.Lane, kind record.Kind, c record.CompartmentID, session uint64, plain []byte) (store.Draft, error) {
	k, err := n.vault.key(c, firstGen)
	if errors.Is(err, seal.ErrNoKey) { // it may have arrived a moment ago
		if err = n.projectNow(); err == nil {
			k, err = n.vault.key(c, firstGen)
		}
	}
	if err != nil {
		return store.Draft{}, err
	}
	packed, err := n.vault.dictionaries.Pack(plain)
	if err != nil {
		return store.Draft{}, err
	}
	return n.vault.draft(lane, kind, c, dek{firstGen, k}, session, packed), nil
}

// EndStaff ends an account on this box with every session of it, and tells the region. What
// its owner wrote stays, under the same name.
func (n *Node) EndStaff(ctx context.Context, by web.Session, staffID string) error {
	if !by.Operator {
		if _, err := n.allow(ctx, by, policy.Staff, ""); err != nil {
			return err
		}
	}
	unlock := n.forms.lock("staff")
	defer unlock()
	a, ok, err := n.accountByID(staffID)
	if err != nil {
		return explain(err)
	}
	if !ok {
		return web.ErrNotFound
	}
	if last, err := n.lastThatAdds(&a); err != nil || last {
		return errors.Join(explain(err), web.ErrLastStaff)
	}
	draft, err := n.staffDraft(n.sessionOf(&by), staffEntry{V: 1, Public: a.Public, Name: a.Name})
	if err != nil {
		return explain(err)
	}
	n.staff.pinMu.Lock() // nobody signs in between the row's end and that of the sessions
	defer n.staff.pinMu.Unlock()
	_, err = n.append(ctx, []store.Draft{draft}, func([]record.Record) ([]store.Row, error) {
		return []store.Row{{Key: accountKey(a.Public)}, {Key: memberLockRowKey(a.id())}}, nil
	})
	if err != nil {
		return explain(err)
	}
	delete(n.staff.unsaved, a.id())
	n.staff.endSessions(a.id())
	return nil
}

// lastThatAdds reports whether nobody else on this box may add staff.
func (n *Node) lastThatAdds(a *account) (bool, error) {
	list, err := n.accounts()
	if err != nil {
		return false, err
	}
	for i := range list {
		roles, err := list[i].roles()
		if err != nil {
			return false, err
		}
		if list[i].id() != a.id() && n.may(&signedIn{roles: roles}, policy.Staff, "") {
			return false, nil
		}
	}
	return true, nil
}

func (n *Node) staffDraft(session uint64, e staffEntry) (store.Draft, error) {
	region, ok := n.box.RegionID()
	if !ok {
		return store.Draft{}, ErrNoRegion
	}
	plain, err := record.Marshal(e)
	if err != nil {
		return store.Draft{}, err
	}
	d, err := n.sealedDraft(record.LaneClinical, record.KindStaff, directory(region), session, plain)
	if errors.Is(err, seal.ErrNoKey) {
		err = fmt.Errorf("%w: %w", web.ErrNotReady, err)
	}
	return d, err
}

// SignIn tries a PIN. Wrong tries are counted on disk, so a restart does not
// give new ones, and in memory while the disk is full. The session's opening
// record is durable before the token exists.
func (n *Node) SignIn(ctx context.Context, staffID, pin string) (string, error) {
	n.staff.pinMu.Lock()
	defer n.staff.pinMu.Unlock()
	a, priv, err := n.tryPINLocked(ctx, staffID, pin)
	if err != nil {
		return "", err
	}
	n.giveLock(ctx, a.id(), pin)
	return n.openSession(ctx, a, priv)
}

// tryPINLocked gives an account with its key to who knows the PIN; pinMu is held.
func (n *Node) tryPINLocked(ctx context.Context, staffID, pin string) (account, ed25519.PrivateKey, error) {
	a, ok, err := n.accountByID(staffID)
	if err != nil || !ok {
		return a, nil, errors.Join(err, web.ErrWrongPIN)
	}
	if u, ok := n.staff.unsaved[a.id()]; ok {
		a = u
	}
	now := n.o.Now()
	if wait, most := time.Unix(a.Locked, 0).Sub(now), pinLockFor(a.Fails); wait > most { // the clock was set back
		a.Locked = now.Add(most).Unix()
		return a, nil, errors.Join(n.countTry(ctx, a), &web.LockedError{Until: most})
	} else if wait > 0 {
		return a, nil, &web.LockedError{Until: wait}
	}
	key, err := seal.DecodeStaffKey(a.Key)
	if err != nil {
		return a, nil, fmt.Errorf("trying a PIN: %w", err)
	}
	priv, err := key.Unlock(pin)
	if errors.Is(err, seal.ErrWrongPIN) {
		return a, nil, n.wrongPIN(ctx, a, now)
	}
	if err != nil {
		return a, nil, fmt.Errorf("trying a PIN: %w", err)
	}
	if a.Fails != 0 || a.Locked != 0 {
		a.Fails, a.Locked = 0, 0
		if err := n.countTry(ctx, a); err != nil {
			return a, nil, explain(err)
		}
	}
	return a, priv, nil
}

func (a *account) id() string { return hex.EncodeToString(a.Public[:16]) }

func (n *Node) accountByID(id string) (account, bool, error) {
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 16 {
		return account{}, false, nil
	}
	key := append([]byte("staff/"), strings.ToLower(id)...)
	row, err := n.store.GetRow(key)
	if errors.Is(err, store.ErrNotFound) {
		return account{}, false, nil
	}
	if err != nil {
		return account{}, false, err
	}
	a, err := n.openAccount(key, row)
	return a, err == nil, err
}

func (n *Node) openSession(ctx context.Context, a account, priv ed25519.PrivateKey) (string, error) {
	roles, err := a.roles()
	if err != nil {
		return "", err
	}
	raw := make([]byte, tokenBytes)
	rand.Read(raw) // never fails: it ends the process instead
	token := base64.RawURLEncoding.EncodeToString(raw)
	at, err := n.sessionRecord(ctx, priv)
	if err != nil && !errors.Is(err, store.ErrFull) { // a full box still shows its charts
		return "", explain(err)
	}
	s := &signedIn{n: at, roles: roles, key: priv, since: n.staff.now(), used: n.staff.now(), seen: map[seenLook]time.Time{}, glass: map[record.CompartmentID]time.Time{},
		session: web.Session{Token: token, StaffID: a.id(), StaffName: a.Name, May: n.rights(a.id(), roles)}}
	n.staff.mu.Lock()
	defer n.staff.mu.Unlock()
	n.staff.sweepLocked()
	n.staff.makeRoomLocked(a.id())
	if len(n.staff.open) >= sessionsMax {
		return "", fmt.Errorf("signing in: %d people are signed in already: sign out somewhere first", sessionsMax)
	}
	n.staff.sessionsEver++
	s.opened = n.staff.sessionsEver
	n.staff.open[token] = s
	return token, nil
}

func (n *Node) sessionRecord(ctx context.Context, priv ed25519.PrivateKey) (uint64, error) {
	placed, err := n.append(ctx, []store.Draft{n.sessionDraft(priv)}, nil)
	if err != nil {
		return 0, err
	}
	return n.epochs.session(placed[0].Core.N), nil
}

// endSessions ends all of one person.
func (r *staffRoom) endSessions(staffID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for token, s := range r.open {
		if s.session.StaffID == staffID {
			delete(r.open, token)
		}
	}
}

// sessions lists who is signed in.
func (r *staffRoom) sessions() []*signedIn {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweepLocked()
	return slices.Collect(maps.Values(r.open))
}

// over reports whether a session was idle for too long, or began too long ago: a page that is open all day
// and all night belongs to nobody.
func (r *staffRoom) over(s *signedIn) bool {
	now := r.now()
	return now.Sub(s.used) > r.idle || now.Sub(s.since) > sessionLasts
}

func (r *staffRoom) sweepLocked() {
	for token, s := range r.open {
		if r.over(s) {
			delete(r.open, token)
		}
	}
}

// makeRoomLocked ends a member's oldest session when there is one too many, so that nobody takes
// the places of the others.
func (r *staffRoom) makeRoomLocked(staffID string) {
	var mine []string
	for token, s := range r.open {
		if s.session.StaffID == staffID {
			mine = append(mine, token)
		}
	}
	if len(mine) < sessionsEach {
		return
	}
	delete(r.open, slices.MinFunc(mine, func(a, b string) int { return cmp.Compare(r.open[a].opened, r.open[b].opened) }))
}

func (r *staffRoom) get(token string, touch bool) (*signedIn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.open[token]
	if !ok {
		return nil, web.ErrNotSignedIn
	}
	if r.over(s) {
		delete(r.open, token)
		return nil, web.ErrNotSignedIn
	}
	if touch {
		s.used = r.now()
	}
	return s, nil
}

// Session returns who a token belongs to and counts as use.
func (n *Node) Session(_ context.Context, token string) (web.Session, error) {
	return n.peek(token, true)
}

// Peek is Session without counting as use.
func (n *Node) Peek(_ context.Context, token string) (web.Session, error) {
	return n.peek(token, false)
}

func (n *Node) peek(token string, touch bool) (web.Session, error) {
	s, err := n.staff.get(token, touch)
	if err != nil {
		return web.Session{}, err
	}
	return s.session, nil
}

// SignOut ends a session.
func (n *Node) SignOut(_ context.Context, token string) {
	n.staff.mu.Lock()
	defer n.staff.mu.Unlock()
	delete(n.staff.open, token)
}

// sessionOf is the handle of the session that records of s carry, 0 for the machine.
func (n *Node) sessionOf(s *web.Session) uint64 {
	if s == nil {
		return 0
	}
	in, err := n.staff.get(s.Token, false)
	if err != nil {
		return 0
	}
	return in.n
}

// explain gives the page the error family that it has words for.
func explain(err error) error {
	switch {
	case errors.Is(err, store.ErrFull):
		return fmt.Errorf("%w: %w", web.ErrReadOnly, err)
	case errors.Is(err, store.ErrFault), errors.Is(err, store.ErrClosed):
		return fmt.Errorf("%w: %w", web.ErrFault, err)
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%w: %w", web.ErrNotFound, err)
	}
	return err
}
