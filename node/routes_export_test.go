package node

import (
	"net/http"

	"github.com/healthpost/healthpost/record"
)

// Handlers are everything that answers HTTP on a box: the page, the commands, the
// ledger for auditors.
func (n *Node) Handlers() []http.Handler {
	return []http.Handler{n.pageHandler(nil), n.controlHandler(), newLogHandler(n.store, n.o.Now)}
}

// Clinical counts the clinical records on a box.
func (n *Node) Clinical() (int, error) {
	comps, err := n.store.Compartments()
	count := 0
	for _, c := range comps {
		list, err := n.store.Compartment(c)
		if err != nil {
			return 0, err
		}
		for _, x := range list {
			if x.Record.Core.Kind == record.KindClinical {
				count++
			}
		}
	}
	return count, err
}
