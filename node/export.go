package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

const exportErrorTrailer = "X-Export-Error"

// Export writes every resource this box can read, one a line, as it was taken in,
// attachments in it;
// of a resource with several versions those that stand, and what patients decided about who
// reads as Consent. A chart that its patient closed to this box is left out. The export is on record
// before the first byte is written.
func (n *Node) Export(ctx context.Context, w io.Writer) error {
	if err := n.noteLine(ctx, accessLine{Action: uint8(accessExport)}); err != nil {
		return err
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
		s, err := n.standing(c)
		if err != nil {
			return err
		}
		if s.closed(n.grantTime()) {
			closed++
			continue
		}
		if err := n.exportCompartment(out, c); err != nil {
			return err
		}
	}
	if closed > 0 {
		n.log.Info().Int("charts", closed).Msg("charts that their patients closed to this box were not exported")
	}
	return out.Flush()
}

func (n *Node) exportCompartment(out *bufio.Writer, c record.CompartmentID) error {
	opened, err := n.openCompartment(c)
	if err != nil {
		return err
	}
	ch := chart.Fold(opened)
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
	return n.exportConsent(out, c, &ch)
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
