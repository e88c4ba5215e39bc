package node

import (
	"bufio"
	"context"
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

// Export writes every resource this box can read, one a line, as it was taken in,
// attachments in it;
// of a resource with several versions those that stand, and what patients decided about who
// reads as Consent. A chart that its patient closed to this box is left out, and so is what is kept
// apart by a topic, where this box is not the one to see it. The export is on record before the first
// byte is written.
func (n *Node) Export(ctx context.Context, w io.Writer) error {
	return n.ExportFor(ctx, w, policy.Treatment)
}

// ExportFor is Export for a purpose. For another than treatment only charts are in it whose patients permitted
// that, and each is on record by itself, before its first byte.
func (n *Node) ExportFor(ctx context.Context, w io.Writer, purpose string) error {
	if !slices.Contains(fhir.PurposeWords(), purpose) {
		return fmt.Errorf("exporting: no such purpose; there are %s", strings.Join(fhir.PurposeWords(), ", "))
	}
	if purpose == policy.Treatment {
		if err := n.noteLine(ctx, accessLine{Action: uint8(accessExport)}); err != nil {
			return err
		}
	}
	out := bufio.NewWriterSize(w, 64<<10)
	comps, err := n.store.Compartments()
	if err != nil {
		return err
	}
	closed := 0
	for _, c := range comps {
		if err := ctx.Err(); err != nil {
			return err
		}
		v, err := n.mayExport(c, purpose)
		if err != nil {
			return err
		}
		if !v.Allowed {
			closed++
			continue
		}
		if purpose != policy.Treatment {
			line := accessLine{Action: uint8(accessExport), Compartment: c[:], Rules: purposeWord + purpose + "," + ruleWords(v), Size: n.store.Head().Size}
			if err := n.noteLine(ctx, line); err != nil {
				return err
			}
		}
		if err := n.exportCompartment(out, c, purpose); err != nil {
			return err
		}
	}
	if closed > 0 {
		n.log.Info().Int("charts", closed).Msg("charts that their patients closed to this box were not exported")
	}
	return out.Flush()
}

func (n *Node) exportCompartment(out *bufio.Writer, c record.CompartmentID, purpose string) error {
	opened, err := n.openCompartment(c)
	if err != nil {
		return err
	}
	whole := chart.Fold(opened)
	s, err := n.sight(nil, c, whole.Topics(), purpose)
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
			if err != nil {
				return err
			}
			if err := writeJSONLine(out, json); err != nil {
				return fmt.Errorf("exporting: %w", err)
			}
		}
	}
	if ch.Patient == nil || purpose != policy.Treatment {
		return nil
	}
	s, err = n.sight(nil, c, fhir.AllTopics, purpose)
	if err != nil {
		return err
	}
	return n.exportConsent(out, c, &ch, s.Topics)
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
	n.answerExport(w, r, func(ctx context.Context, w io.Writer) error { return n.ExportFor(ctx, w, r.PathValue("purpose")) })
}

// answerExport sends what an export writes; a failure half-way is told behind it.
func (n *Node) answerExport(w http.ResponseWriter, r *http.Request, export func(context.Context, io.Writer) error) {
	w.Header().Set("Trailer", exportErrorTrailer)
	w.Header().Set("Content-Type", "application/fhir+ndjson")
	err := export(r.Context(), w)
	if err != nil && !errors.Is(err, context.Canceled) {
		n.log.Error().Err(err).Msg("exporting")
		w.Header().Set(exportErrorTrailer, "see the box's log")
		if errors.Is(err, seal.ErrDamaged) {
			w.Header().Set(exportErrorTrailer, "a record is damaged: run 'healthpost verify'")
		}
	}
}

// Purposes are the words of what an export can be for; the first is treatment.
func Purposes() []string { return fhir.PurposeWords() }
