package chart

import (
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// Row is one line of a list of people: what tells them apart, taken from their charts. Empty text means not known.
type Row struct {
	Given, Family  string
	Sex            string // female, male, other, unknown
	BirthDate      string // YYYY, YYYY-MM or YYYY-MM-DD
	BirthEstimated bool
	Village        string
	Mother         string
	Card           string
	Phone          string
	LastVisit      string // YYYY-MM-DD
	Deceased       bool
}

type rowArray struct {
	_ struct{} `cbor:",toarray"`
	V uint8
	R Row
}

const rowVersion = 1

// EncodeRow gives the bytes under which a row is kept. Rows are rebuilt from charts whenever their version changes.
func EncodeRow(r Row) ([]byte, error) { return record.Marshal(rowArray{V: rowVersion, R: r}) }

// DecodeRow reads what EncodeRow wrote.
func DecodeRow(b []byte) (Row, error) {
	var a rowArray
	if err := record.Unmarshal(b, &a); err != nil {
		return Row{}, fmt.Errorf("reading row: %w", err)
	}
	if a.V != rowVersion {
		return Row{}, fmt.Errorf("reading row: %w: version %d", record.ErrMalformed, a.V)
	}
	return a.R, nil
}
