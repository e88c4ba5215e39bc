package node

import (
	"net/http"

	"github.com/healthpost/healthpost/web"
)

// pageHandler is the page that staff see.
func (n *Node) pageHandler() http.Handler {
	return web.New(n, web.Options{Log: n.log.With().Str("part", "page").Logger(), Version: Version, Now: n.o.Now})
}
