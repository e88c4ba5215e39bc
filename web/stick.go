package web

import (
	"errors"
	"strings"
)

// sticksBody is the page of sticks: what is on them, what can be written, and
// whether they may be pulled out.
type sticksBody struct {
	SticksPage
	Result  string // of the last job, in words
	Bad     bool   // the last job did not do all that it was to do
	Percent int    // of the one that runs; -1 when nobody knows
	Sticks  []stickCard
}

// stickCard is a stick with its sizes in words.
type stickCard struct {
	Stick
	FreeWords string
	Rows      []stickRow
}

type stickRow struct {
	StickFile
	What string
}

// stickLookSeconds is after how long a page about a running job loads itself again.
const stickLookSeconds = "3"

func showSticks(q *request) error {
	page, err := q.clinic.Sticks(q.r.Context(), q.session)
	if err != nil {
		return err
	}
	body := sticksBody{SticksPage: page, Percent: -1, Result: q.stickResult(&page.Job)}
	body.Bad = page.Job.Result != StickRead && page.Job.Result != StickWrote
	if page.Job.Total > 0 {
		body.Percent = int(min(100*page.Job.Done/page.Job.Total, 100))
	}
	for _, s := range page.Sticks {
		card := stickCard{Stick: s, FreeWords: sizeWords(s.FreeBytes)}
		for _, f := range s.Files {
			card.Rows = append(card.Rows, stickRow{f, q.stickFile(&f)})
		}
		body.Sticks = append(body.Sticks, card)
	}
	if page.Job.Active {
		q.w.Header().Set("Refresh", stickLookSeconds)
	}
	return q.show("stick", q.newPage("links", "stick.title", body))
}

// stickFile says what a parcel is.
func (q *request) stickFile(f *StickFile) string {
	switch {
	case f.ForHere && f.AsOf.IsZero():
		return q.words.Text("stick.file_from", f.From)
	case f.ForHere:
		return q.words.Text("stick.file_from_as_of", f.From, formatTime(q.words, f.AsOf.In(q.opts.Location)))
	case f.Own:
		return q.words.Text("stick.file_own")
	case f.Damaged:
		return q.words.Text("stick.file_damaged")
	}
	return q.words.Text("stick.file_other")
}

// stickResult says what became of the last job.
func (q *request) stickResult(j *StickJob) string {
	w := q.words
	if j.Stick == "" || j.Active || j.Result == "" {
		return ""
	}
	var out []string
	switch j.Result {
	case StickRead, StickMended, StickPartly, StickPulled:
		if j.Write {
			return w.Text("stick.pulled_write")
		}
		out = append(out, w.Text("stick."+j.Result, j.From), w.Text("stick.counts", formatCount(j.New), formatCount(j.Known), formatCount(j.Refused)))
		if j.Waiting > 0 {
			out = append(out, w.Count("stick.waiting", j.Waiting))
		}
	case StickWrote:
		out = append(out, w.Text("stick.wrote", strings.Join(j.For, ", ")), w.Text("stick.wrote_counts", formatCount(j.Records), formatCount(j.Entries)))
	default:
		return w.Text("stick." + j.Result)
	}
	return strings.Join(out, " ")
}

func readStick(q *request) error {
	return q.stickBegun(q.clinic.ReadStick(q.r.Context(), q.session, q.r.PostForm.Get("stick"), q.r.PostForm.Get("file")))
}

func writeStick(q *request) error {
	return q.stickBegun(q.clinic.WriteStick(q.r.Context(), q.session, q.r.PostForm.Get("stick"), q.r.PostForm.Get("to")))
}

// stickBegun goes back to the page, which says what is going on: also when the stick
// is gone or in use.
func (q *request) stickBegun(err error) error {
	if err != nil && !errors.Is(err, ErrStickBusy) && !errors.Is(err, ErrNotFound) {
		return err
	}
	return q.redirect("/stick")
}
