package rig

import (
	"encoding/json"
	"errors"

	"github.com/healthpost/healthpost/node"
)

// ParcelReading is what 'parcel read' says of one file.
type ParcelReading struct {
	Error string `json:"error"`
	node.ParcelRead
}

// ReadParcel takes a parcel in and gives the report and the exit code.
func (b *Box) ReadParcel(path string) (rep ParcelReading, code int) {
	b.T.Helper()
	r := b.Command("", "parcel", "read", "--json", path)
	var list []ParcelReading
	if err := json.Unmarshal([]byte(r.Out), &list); err != nil || len(list) != 1 {
		b.T.Fatalf("%s: reading a parcel: %v, exit code %d\n%s%s", b.Name, errors.Join(err), r.Code, r.Out, r.Err)
	}
	return list[0], r.Code
}
