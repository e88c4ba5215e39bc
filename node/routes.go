package node

import (
	"net/http"
)

// Every way into a box over HTTP, besides its page, stands in a table of this file. What is
// registered without an entry takes no body and fails a test.

// way is one entry of a table.
type way struct {
	bodyMax int64  // bytes of a request's body
	changes string // in words
}

const (
	noBody      = 0
	shortBody   = 64 << 10
	endlessBody = 1 << 50 // read as it comes, never held
)

// commandWays are the commands' ways in, over the control socket: whoever may open that file.
var commandWays = map[string]way{
	"GET /status":               {noBody, "nothing"},
	"GET /members":              {noBody, "nothing"},
	"GET /keys":                 {noBody, "nothing"},
	"POST /keys/open":           {shortBody, "whether the box is locked"},
	"POST /keys/change":         {shortBody, "the lock of the box"},
	"POST /invite":              {shortBody, "an invitation"},
	"GET /hubs":                 {noBody, "nothing"},
	"POST /hubs/approve":        {noBody, "a vote in the ledger"},
	"POST /hubs/expel":          {noBody, "a vote in the ledger"},
	"POST /revoke":              {noBody, "a member's place in the region"},
	"POST /inviter":             {noBody, "a vote in the ledger"},
	"GET /recovery":             {noBody, "nothing"},
	"POST /recovery":            {2 * DisclosureBytesMax, "a vote in the ledger"},
	"GET /erasures":             {noBody, "nothing"},
	"POST /erase":               {shortBody, "an erasure in the ledger"},
	"GET /escrow":               {noBody, "nothing"},
	"POST /escrow":              {shortBody, "a vote in the ledger"},
	"POST /escrow/open":         {4 * shortBody, "who may read a chart, with sheets"},
	"GET /rules":                {noBody, "nothing"},
	"POST /rules":               {rulesBodyMax, "a vote in the ledger"},
	"GET /dictionaries":         {noBody, "nothing"},
	"POST /dictionaries":        {dictionaryBodyMax, "a dictionary in the ledger"},
	"POST /sync":                {noBody, "one exchange"},
	"POST /link":                {noBody, "whether the box calls"},
	"GET /staff":                {noBody, "nothing"},
	"POST /staff":               {4 << 10, "accounts"},
	"POST /staff/end":           {noBody, "accounts"},
	"GET /record":               {noBody, "nothing"},
	"POST /assign":              {shortBody, "what a box holds"},
	"POST /release":             {noBody, "what this box holds"},
	"GET /region/keys":          {noBody, "nothing"},
	"GET /root":                 {noBody, "nothing"},
	"GET /root/check":           {noBody, "nothing"},
	"GET /evidence":             {noBody, "nothing"},
	"GET /evidence/file":        {noBody, "nothing"},
	"POST /evidence/clear":      {noBody, "that confirming goes on"},
	"POST /prove":               {2 * DisclosureBytesMax, "nothing"},
	"POST /import":              {controlBodyMax, "records"},
	"POST /parcel/read":         {endlessBody, "records"},
	"POST /parcel/write":        {noBody, "what was said to a carrier"},
	"POST /verify":              {noBody, "damaged records, with --repair"},
	"GET /export":               {noBody, "nothing"},
	"GET /export/access":        {noBody, "nothing"},
	"GET /export/for/{purpose}": {noBody, "nothing"},
}

// ledgerWays are those of witnesses and auditors, where a hub serves its ledger: anybody.
var ledgerWays = map[string]way{
	"GET /checkpoint":     {noBody, "nothing"},
	"GET /tile/{path...}": {noBody, "nothing"},
}

// routes registers handlers under the limits of a table; nothing else does.
type routes struct {
	mux   *http.ServeMux
	table map[string]way
	known map[string]bool // registered
}

func newRoutes(table map[string]way) *routes {
	return &routes{mux: http.NewServeMux(), table: table, known: map[string]bool{}}
}

func (t *routes) handle(pattern string, h http.HandlerFunc) {
	t.known[pattern] = true
	limit := t.table[pattern].bodyMax
	t.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > limit {
			w.Header().Set("Connection", "close")
			http.Error(w, `{"error":"the request is too large"}`, http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		h(w, r)
	})
}
