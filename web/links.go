package web

import (
	"math"
	"strconv"
	"time"
)

// linksBody is the page of links: what waits, for whom, and what is wrong.
type linksBody struct {
	SyncPage
	FreePercent int // of the disk; -1 when unknown
	FreeWords   string
	Cards       []faultCard
	Peers       []peerCard
	OnlyHere    string // what exists under this roof alone
	Why         whyCard
	Missing     string // what is not here of the regional record; "" for nothing
	Month, Used string // of a link that is paid for by its bytes; "" for another
}

// whyCard says why nothing moves, or not everything, and what to do.
type whyCard struct{ Title, What, Do string }

// peerCard is a peer with its fault in words.
type peerCard struct {
	Peer
	Cards []faultCard // none or one
}

// linksBody asks the box how its links are.
func (q *request) linksBody() (linksBody, error) {
	sync, err := q.clinic.SyncPage(q.r.Context(), q.session)
	if err != nil {
		return linksBody{}, err
	}
	body := linksBody{SyncPage: sync, FreePercent: -1, FreeWords: sizeWords(sync.Disk.FreeBytes), Cards: q.faultCards(sync.Faults), Why: q.why(&sync)}
	body.OnlyHere = onlyHereOrNothing(q.words, sync.Counts)
	body.Missing = missingWords(q.words, &sync.Missing)
	if u := sync.Usage; u.Metered {
		body.Month, body.Used = formatDate(q.words, u.Month), trafficWords(u.Bytes)
		if u.Budget > 0 {
			body.Used = q.words.Text("links.usage_of", body.Used, trafficWords(u.Budget))
		}
	}
	for _, p := range sync.Peers {
		card := peerCard{Peer: p}
		if p.Fault.Code != "" {
			card.Cards = q.faultCards([]Fault{p.Fault})
		}
		body.Peers = append(body.Peers, card)
	}
	if sync.Disk.TotalBytes > 0 {
		body.FreePercent = int(100 * sync.Disk.FreeBytes / sync.Disk.TotalBytes)
	}
	return body, nil
}

func showLinks(q *request) error {
	body, err := q.linksBody()
	if err != nil {
		return err
	}
	p := q.newPage("links", "links.title", body)
	switch done := q.r.URL.Query().Get("done"); done {
	case "sending", "seen":
		p.Notice = notice{Text: q.words.Text("links." + done)}
	}
	return q.show("links", p)
}

// missingWords says how much is still to come, and how long it takes by the pace of the last minutes.
func missingWords(c *Catalogue, m *Missing) string {
	if m.Left == 0 {
		return ""
	}
	left, size := formatCount(int(min(m.Left, math.MaxInt64))), formatCount(int(min(m.Size, math.MaxInt64)))
	if m.Stays {
		return c.Text("links.part_words", left, size)
	}
	words := c.Text("links.coming_words", left, size)
	if m.Remaining > 0 {
		words += " " + c.Count("links.coming_pace", int((m.Remaining+time.Minute-1)/time.Minute))
	}
	return words
}

func onlyHereOrNothing(c *Catalogue, n Counts) string {
	switch {
	case n.OnlyHere > 0 || n.VisitsOnlyHere > 0:
		return onlyHere(c, n)
	case n.FilesOnlyHere > 0:
		return c.Count("line.files_only_here", n.FilesOnlyHere)
	case n.Mobile:
		return c.Text("links.nothing_only_here_mobile")
	}
	return c.Text("links.nothing_only_here")
}

// why puts the code of a page in words; a zero card for one that it does not know.
func (q *request) why(p *SyncPage) whyCard {
	key := "why." + p.Why
	if p.Why == WhyNothing || !q.words.Has(key+".what") {
		return whyCard{}
	}
	title := "why.title"
	switch p.Why {
	case WhyNoHub, WhyLow, WhyEmpty, WhyOrder:
		title = "why.some"
	}
	return whyCard{q.words.Text(title), q.words.Text(key+".what", formatTime(q.words, p.NextCall.In(q.opts.Location))), q.words.Text(key + ".do")}
}

// trafficWords shows bytes as a bill for them does: in MB with one decimal, rounded up.
func trafficWords(bytes uint64) string {
	tenths := (bytes + 99_999) / 100_000
	return formatCount(int(tenths/10)) + "." + strconv.Itoa(int(tenths%10)) + "\u00a0MB"
}

// sizeWords shows bytes in whole GB from two on, else in MB.
func sizeWords(bytes int64) string {
	if bytes >= 2<<30 {
		return formatCount(int(bytes>>30)) + "\u00a0GB"
	}
	return formatCount(int(bytes>>20)) + "\u00a0MB"
}

func sendNow(q *request) error {
	if err := q.clinic.SyncNow(q.r.Context(), q.session); err != nil {
		return err
	}
	return q.redirect("/links?done=sending")
}

// linksNow is the part of that page that changes while it is open, as HTML.
func (q *request) linksNow() (string, error) {
	body, err := q.linksBody()
	if err != nil {
		return "", err
	}
	return q.render.part(q.words.Language, "links-now", q.newPage("links", "links.title", body))
}
