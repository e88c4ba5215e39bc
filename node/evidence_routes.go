package node

import (
	"context"
	"net/http"
	"net/url"

	"github.com/healthpost/healthpost/store"
)

// ErrLocked: another process has the box open.
var ErrLocked = store.ErrLocked

// EvidenceExport is a piece of evidence as a file, for whoever has the region's keys.
type EvidenceExport struct {
	ID   string `json:"id"`
	File []byte `json:"file"` // record.Evidence.Encode
}

// evidenceRoutes are what commands ask about evidence.
func (n *Node) evidenceRoutes(reply func(pattern string, f func(r *http.Request) (any, error))) {
	reply("GET /evidence", func(*http.Request) (any, error) { return n.EvidenceList() })
	reply("GET /evidence/file", func(r *http.Request) (any, error) {
		id := r.URL.Query().Get("id")
		b, err := n.EvidenceFile(id)
		return EvidenceExport{id, b}, err
	})
	reply("POST /evidence/clear", func(r *http.Request) (any, error) { return struct{}{}, n.ClearEvidence(r.Context()) })
}

// Evidence, EvidenceFile and ClearEvidence do on the box what EvidenceList,
// EvidenceFile and ClearEvidence of a Node say.
func (c *Client) Evidence(ctx context.Context) (list []EvidenceInfo, err error) {
	return list, c.call(ctx, http.MethodGet, "/evidence", nil, &list)
}

func (c *Client) EvidenceFile(ctx context.Context, id string) ([]byte, error) {
	var x EvidenceExport
	err := c.call(ctx, http.MethodGet, "/evidence/file?"+url.Values{"id": {id}}.Encode(), nil, &x)
	return x.File, err
}

func (c *Client) ClearEvidence(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/evidence/clear", nil, &struct{}{})
}
