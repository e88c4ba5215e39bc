package web

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"html/template"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/healthpost/healthpost/chart"
)

// thumbOf is the address of a preview: it stands in the page itself, since to fetch
// it would open the chart once more. What is no JPEG shows nothing.
func thumbOf(b []byte) template.URL {
	if !bytes.HasPrefix(b, []byte("\xff\xd8\xff")) || len(b) > chart.ThumbSizeMax {
		return ""
	}
	return template.URL("data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(b))
}

// fileLine is an attachment in a chart.
type fileLine struct {
	Href  string
	Name  string
	State string // in words
	Here  bool
	Thumb template.URL
}

// fileLines are the attachments of one version.
func (q *request) fileLines(patientID string, v chart.Version, states map[string]FileState) []fileLine {
	var out []fileLine
	for _, a := range v.Attached() {
		id := hex.EncodeToString(a.Hash[:])
		st := states[id]
		l := fileLine{Href: "/patient/" + url.PathEscape(patientID) + "/file/" + id, Name: firstOf(a.Title, q.fileWord(a.Type)), Thumb: thumbOf(a.Thumb),
			Here: st.Parts > 0 && st.Held == st.Parts}
		switch {
		case !l.Here && st.Held > 0:
			l.State = q.words.Text("file.coming", st.Held, st.Parts)
		case !l.Here:
			l.State = q.words.Text("file.not_here")
		case len(st.To) == 0 && st.Came:
			l.State = q.words.Text("file.here")
		case len(st.To) == 0:
			l.State = q.words.Text("file.only_here")
		case len(st.To) == 1:
			l.State = q.words.Text("file.copied", st.To[0])
		default:
			l.State = q.words.Count("file.copied_more", len(st.To)-1, st.To[0])
		}
		out = append(out, l)
	}
	return out
}

// waitBody is the page of a file that is not whole on this box.
type waitBody struct {
	ID          string
	Name        string
	Held, Parts int
	From        string
}

const fileRefresh = "10" // seconds

// showFile sends an attachment, or says that it is asked for.
func showFile(q *request) error {
	f, err := q.clinic.File(q.r.Context(), q.session, q.r.PathValue("patient"), q.r.PathValue("file"))
	if err != nil {
		return err
	}
	if f.Content != nil {
		return q.sendFile(f)
	}
	q.w.Header().Set("Refresh", fileRefresh)
	return q.show("file", q.newPage("", "file.title", waitBody{ID: q.r.PathValue("patient"), Name: f.Name, Held: f.Held, Parts: f.Parts, From: strings.Join(f.From, ", ")}))
}

// sendFile sends content of a kind that browsers show as what it is, and any other to
// be kept as a file.
func (q *request) sendFile(f File) error {
	h := q.w.Header()
	how, policy := "inline", "default-src 'none'; frame-ancestors 'none'; sandbox"
	switch f.Type {
	case "image/jpeg", "image/png":
	case "application/pdf":
		policy = "default-src 'none'; object-src 'self'; plugin-types application/pdf; frame-ancestors 'none'"
	default:
		how, f.Type = "attachment", "application/octet-stream"
	}
	if f.Name != "" {
		how = firstOf(mime.FormatMediaType(how, map[string]string{"filename": f.Name}), how)
	}
	h.Set("Content-Type", f.Type)
	h.Set("Content-Security-Policy", policy)
	h.Set("Content-Disposition", how)
	h.Set("Content-Length", strconv.Itoa(len(f.Content)))
	q.w.WriteHeader(http.StatusOK)
	if q.r.Method == http.MethodHead {
		return nil
	}
	if _, err := q.w.Write(f.Content); err != nil {
		q.opts.Log.Debug().Msg("file not delivered")
	}
	return nil
}
