package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
)

const exportErrorTrailer = "X-Export-Error"

// ExportReport is what became of an export: what this box holds and the file lacks. What is kept apart by a
// topic is not among it: that alone would tell.
type ExportReport struct {
	Resources int            `json:"resources"`
	LeftOut   []fhir.LeftOut `json:"leftOut"`
}

// Export writes every resource this box can read, one a line, as it was taken in,
// attachments in it;
// of a resource with several versions those that stand, and what patients decided about who
// reads as Consent. A chart that its patient closed to this box is left out, and so is what is kept
// apart by a topic, where this box is not the one to see it. The export is on record before the first
// byte is written. What was left out for want of a permission, of keys or of what can be read is counted in a last
// line, an OperationOutcome.
func (n *Node) Export(ctx context.Context, w io.Writer) (ExportReport, error) {
	return n.ExportFor(ctx, w, policy.Treatment)
}

// ExportFor is Export for a purpose. For another than treatment only charts are in it whose patients permitted
// that, and each is on record by itself, before its first byte.
func (n *Node) ExportFor(ctx context.Context, w io.Writer, purpose string) (ExportReport, error) {
	if !slices.Contains(fhir.PurposeWords(), purpose) {
		return ExportReport{}, fmt.Errorf("exporting: no such purpose; there are %s", strings.Join(fhir.PurposeWords(), ", "))
	}
	if purpose == policy.Treatment {
		if err := n.noteLine(ctx, accessLine{Action: uint8(accessExport)}); err != nil {
			return ExportReport{}, err
		}
	}
	x := exporting{n: n, out: bufio.NewWriterSize(w, 64<<10), purpose: purpose, rep: ExportReport{LeftOut: []fhir.LeftOut{}}}
	comps, err := n.store.Compartments()
	if err != nil {
		return x.rep, err
	}
	for _, c := range comps {
		if err := ctx.Err(); err != nil {
			return x.rep, err
		}
		if err := x.chart(ctx, c); err != nil {
			return x.rep, err
		}
	}
	if err := x.tell(); err != nil {
		return x.rep, err
	}
	return x.rep, x.out.Flush()
}

// exporting is one export under way.
type exporting struct {
	n       *Node
	out     *bufio.Writer
	purpose string
	rep     ExportReport

	closed, notIn  int // charts, and the entries of these
	sealed, unread int // entries of charts that are in the file
}

// chart writes one chart, or counts it.
func (x *exporting) chart(ctx context.Context, c record.CompartmentID) error {
	v, err := x.n.mayExport(c, x.purpose)
	if err != nil {
		return err
	}
	if !v.Allowed {
		return x.leave(c)
	}
	if x.purpose != policy.Treatment {
		line := accessLine{Action: uint8(accessExport), Compartment: c[:], Rules: purposeWord + x.purpose + "," + ruleWords(v), Size: x.n.store.Head().Size}
		if err := x.n.noteLine(ctx, line); err != nil {
			return err
		}
	}
	return x.compartment(c)
}

// leave counts a chart that is left out, with its entries. What is of no person is no chart.
func (x *exporting) leave(c record.CompartmentID) error {
	if region, _ := x.n.box.RegionID(); c == directory(region) {
		return nil
	}
	recs, err := x.n.store.Compartment(c)
	if err != nil {
		return err
	}
	entries := 0
	for i := range recs {
		r := &recs[i].Record
		if k := r.Core.Kind; (k == record.KindClinical || k == record.KindRegistration) && !x.n.store.Erased(r) {
			entries++
		}
	}
	if entries > 0 {
		x.closed++
		x.notIn += entries
	}
	return nil
}

// tell sums up what is left out, in the report and in the file's last line.
func (x *exporting) tell() error {
	charts := fhir.LeftClosed
	if x.purpose != policy.Treatment {
		charts = fhir.LeftNotPermitted
	}
	for _, l := range []fhir.LeftOut{fhir.LeftOutOf(charts, x.closed, x.notIn, x.purpose), fhir.LeftOutOf(fhir.LeftSealed, 0, x.sealed, x.purpose), fhir.LeftOutOf(fhir.LeftUnread, 0, x.unread, x.purpose)} {
		if l.Entries > 0 {
			x.rep.LeftOut = append(x.rep.LeftOut, l)
		}
	}
	if len(x.rep.LeftOut) == 0 {
		return nil
	}
	r, err := fhir.LeftOutResource(x.rep.LeftOut)
	if err != nil {
		return fmt.Errorf("exporting: %w", err)
	}
	return x.line(r.JSON)
}

func (x *exporting) line(json []byte) error {
	if err := writeJSONLine(x.out, json); err != nil {
		return fmt.Errorf("exporting: %w", err)
	}
	return nil
}

func (x *exporting) compartment(c record.CompartmentID) error {
	n := x.n
	opened, left, err := n.openWhole(c, nil)
	if err != nil {
		return err
	}
	x.sealed += left.closed.Records
	x.unread += left.entries - left.closed.Records
	whole := chart.Fold(opened)
	s, err := n.sight(nil, c, whole.Topics(), x.purpose)
	if err != nil {
		return err
	}
	ch := whole.Seen(s)
	for _, line := range ch.Lines {
		for _, v := range line.Heads {
			if v.Op != chart.OpPut {
				continue
			}
			json, err := n.whole(&v)
			if err == nil {
				err = x.line(json)
			}
			if err != nil {
				return err
			}
			x.rep.Resources++
		}
	}
	if ch.Patient == nil || x.purpose != policy.Treatment {
		return nil
	}
	s, err = n.sight(nil, c, fhir.AllTopics, x.purpose)
	if err != nil {
		return err
	}
	return x.consents(c, &ch, s.Topics)
}

// whole is a version's resource with its content in it. Content that is not here, or
// damaged here, is told as absent: a peer may give it again.
func (n *Node) whole(v *chart.Version) ([]byte, error) {
	if len(v.Blobs) == 0 {
		return v.Resource.JSON, nil
	}
	json, err := fhir.Attach(v.Resource.JSON, func(h fhir.ContentHash) ([]byte, bool, error) {
		b, ok := v.Blob(h)
		if !ok {
			return nil, false, nil
		}
		content, _, err := n.content(&b)
		if errors.Is(err, seal.ErrDamaged) || errors.Is(err, store.ErrDamaged) {
			n.log.Warn().Stringer("attachment", b.ID()).Msg("attachment is damaged here and left out")
			return nil, true, nil
		}
		return content, true, err
	})
	if err != nil {
		err = fmt.Errorf("exporting: %w", err)
	}
	return json, err
}

// writeJSONLine writes one JSON value without the line ends it may have between
// its parts; inside of strings JSON has none.
func writeJSONLine(out *bufio.Writer, raw []byte) error {
	for _, b := range raw {
		if b == '\n' || b == '\r' {
			continue
		}
		if err := out.WriteByte(b); err != nil {
			return err
		}
	}
	return out.WriteByte('\n')
}

func (n *Node) exportHandler(w http.ResponseWriter, r *http.Request) { n.answerExport(w, r, n.Export) }

func (n *Node) exportForHandler(w http.ResponseWriter, r *http.Request) {
	n.answerExport(w, r, func(ctx context.Context, w io.Writer) (ExportReport, error) {
		return n.ExportFor(ctx, w, r.PathValue("purpose"))
	})
}

// exportReportTrailer has the ExportReport, behind the file.
const exportReportTrailer = "X-Export-Report"

// answerExport sends what an export writes; the report, or a failure half-way, is told behind it.
func (n *Node) answerExport(w http.ResponseWriter, r *http.Request, export func(context.Context, io.Writer) (ExportReport, error)) {
	w.Header().Set("Trailer", exportErrorTrailer+", "+exportReportTrailer)
	w.Header().Set("Content-Type", "application/fhir+ndjson")
	rep, err := export(r.Context(), w)
	if err != nil && !errors.Is(err, context.Canceled) {
		n.log.Error().Err(err).Msg("exporting")
		w.Header().Set(exportErrorTrailer, "see the box's log")
		if errors.Is(err, seal.ErrDamaged) {
			w.Header().Set(exportErrorTrailer, "a record is damaged: run 'healthpost verify'")
		}
	}
	if b, err := json.Marshal(rep); err == nil {
		w.Header().Set(exportReportTrailer, string(b))
	}
}

// Purposes are the words of what an export can be for; the first is treatment.
func Purposes() []string { return fhir.PurposeWords() }
