package node

import (
	"github.com/healthpost/healthpost/seal"
)

// projected are the prefixes of the rows that lists read.
var projected = []string{"pat/", "tok/", "vis/", "vst/", "reg/", "who/", "res/"}

// ProjectedRows gives those rows, opened where they are sealed.
func (n *Node) ProjectedRows() (map[string]string, error) {
	n.projectMu.Lock()
	defer n.projectMu.Unlock()
	rows := map[string]string{}
	for _, prefix := range projected {
		err := n.store.ScanRows([]byte(prefix), 1<<20, func(k, v []byte) bool {
			if plain, err := seal.OpenRow(n.rowKey(), k, v); err == nil {
				v = plain
			}
			rows[string(k)] = string(v)
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// Reproject drops those rows and makes them anew.
func (n *Node) Reproject() error {
	n.projectMu.Lock()
	var err error
	for _, prefix := range append([]string{string(cursorKey)}, projected...) {
		if err == nil {
			err = n.store.DropRows([]byte(prefix))
		}
	}
	n.projectMu.Unlock()
	if err != nil {
		return err
	}
	return n.projectNow()
}
