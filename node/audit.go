package node

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/policy"
)

// ExportAccess writes every access line and every emergency that this box knows as an AuditEvent of FHIR,
// one a line: those of access records by the order of the ledger, then this box's newest. That they were
// read is a line itself, before the first byte is written. Records of lines that cannot be read here are counted, as
// Export counts entries.
func (n *Node) ExportAccess(ctx context.Context, w io.Writer) (ExportReport, error) {
	if err := n.noteLine(ctx, accessLine{Action: uint8(actionCode(policy.Oversee))}); err != nil {
		return ExportReport{}, err
	}
	if err := n.projectNow(); err != nil {
		return ExportReport{}, err
	}
	out := exporting{n: n, out: bufio.NewWriterSize(w, 64<<10), purpose: policy.Treatment, rep: ExportReport{LeftOut: []fhir.LeftOut{}}}
	x := auditing{exporting: &out, patients: map[record.CompartmentID]string{}, staff: map[string]staffEntry{}}
	if err := errors.Join(x.records(ctx), x.open(), x.emergencies(ctx), out.tell()); err != nil {
		return out.rep, fmt.Errorf("exporting the access log: %w", err)
	}
	return out.rep, out.out.Flush()
}

// auditing is one such export.
type auditing struct {
	*exporting
	patients map[record.CompartmentID]string // reference to the Patient of each that came up
	staff    map[string]staffEntry           // by id
}

func (x *auditing) records(ctx context.Context) error {
	region, ok := x.n.box.RegionID()
	if !ok {
		return nil
	}
	recs, err := x.n.store.Compartment(directory(region))
	if err != nil {
		return err
	}
	for i := range recs {
		r := &recs[i].Record
		if r.Core.Kind != record.KindAccess || x.n.store.Erased(r) {
			continue
		}
		if r.Body == nil {
			x.unread++
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		plain, err := x.n.vault.open(r)
		if errors.Is(err, seal.ErrNoKey) || errors.Is(err, seal.ErrNewer) || errors.Is(err, seal.ErrDamaged) {
			x.unread++
			continue
		}
		if err != nil {
			return err
		}
		d, ok, err := x.n.store.EpochAuthor(r.Core.Epoch)
		if err != nil || !ok {
			return err
		}
		for _, l := range decodeAccess(plain) {
			if err := x.line(&l, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// open are this box's lines that are in no record yet.
func (x *auditing) open() error {
	_, lines, err := x.n.openLines(accessBatchLines)
	if err != nil {
		return err
	}
	for _, plain := range lines {
		l, err := decodeLine(plain)
		if err == nil {
			err = x.line(&l, x.n.author.Device)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *auditing) line(l *accessLine, d record.DeviceID) error {
	look, err := x.n.lookWords(&lookRow{Action: l.Action})
	if err != nil {
		return err
	}
	a := fhir.Audit{ID: fmt.Sprintf("%s-%d", hex.EncodeToString(d[:lookDeviceKey]), l.N), At: timeOfHLC(l.HLC), Action: fhir.AuditAction(look.What), Refused: look.Refused, Size: l.Size}
	rules := l.Rules
	if a.For, rules = readPurpose(rules); rules != "" {
		a.Rules = strings.Split(rules, ",")
	}
	if len(l.Compartment) > 0 {
		if err := x.about(&a, record.CompartmentID(l.Compartment)); err != nil {
			return err
		}
	}
	if a.Name, a.Role, err = x.person(l.Staff); err != nil {
		return err
	}
	a.Staff = l.Staff
	return x.write(&a, d)
}

// emergencies are told a second time, with both persons and the reason.
func (x *auditing) emergencies(ctx context.Context) error {
	var keys [][]byte
	err := x.n.store.ScanRows([]byte("glass/"), emergenciesMax, func(k, _ []byte) bool { keys = append(keys, slices.Clone(k)); return true })
	if err != nil {
		return err
	}
	for _, k := range keys {
		var e glassRow
		ok, err := x.n.readRow(k, &e)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || !ok {
			return err
		}
		a := fhir.Audit{ID: "emergency-" + hex.EncodeToString(e.RID[:16]), At: timeOfHLC(e.HLC), Action: fhir.AuditBreak, Reason: e.Words,
			Staff: staffIDOf(e.Staff[0]), SecondID: staffIDOf(e.Staff[1])}
		if err := x.about(&a, record.CompartmentID(e.Compartment)); err != nil {
			return err
		}
		if a.Name, a.Role, err = x.person(a.Staff); err != nil {
			return err
		}
		if a.Second, _, err = x.person(a.SecondID); err != nil {
			return err
		}
		if err := x.write(&a, record.DeviceID(e.Device)); err != nil {
			return err
		}
	}
	return nil
}

// about names the patient as their own record does; where it cannot be read here, by the compartment alone.
func (x *auditing) about(a *fhir.Audit, c record.CompartmentID) error {
	a.Compartment = c.String()
	known, ok := x.patients[c]
	if !ok {
		opened, err := x.n.fold(c, nil)
		if err != nil {
			return err
		}
		if opened.Patient != nil && opened.Patient.Resource().ID != "" {
			known = "Patient/" + opened.Patient.Resource().ID
		}
		x.patients[c] = known
	}
	a.Patient = known
	return nil
}

// person gives name and roles that the directory has for an account.
func (x *auditing) person(id string) (name, role string, err error) {
	if id == "" {
		return "", "", nil
	}
	e, ok := x.staff[id]
	if !ok {
		if e, _, err = x.n.staffByID(id); err != nil {
			return "", "", err
		}
		x.staff[id] = e
	}
	return e.Name, e.Role, nil
}

func (x *auditing) write(a *fhir.Audit, d record.DeviceID) error {
	a.Device, a.Box = d.String(), x.n.deviceName(d)
	r, err := a.Resource()
	if err != nil {
		return err
	}
	x.rep.Resources++
	return x.exporting.line(r.JSON)
}

func (n *Node) exportAccessHandler(w http.ResponseWriter, r *http.Request) {
	n.answerExport(w, r, n.ExportAccess)
}
