package web

// linksBody is the page of links: what waits, for whom, and what is wrong.
type linksBody struct {
	SyncPage
	FreePercent int // of the disk; -1 when unknown
	FreeWords   string
	Cards       []faultCard
	Peers       []peerCard
}

// peerCard is a peer with its fault in words.
type peerCard struct {
	Peer
	Cards []faultCard // none or one
}

func showLinks(q *request) error {
	sync, err := q.clinic.SyncPage(q.r.Context(), q.session)
	if err != nil {
		return err
	}
	body := linksBody{SyncPage: sync, FreePercent: -1, FreeWords: sizeWords(sync.Disk.FreeBytes), Cards: q.faultCards(sync.Faults)}
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
	p := q.newPage("links", "links.title", body)
	switch done := q.r.URL.Query().Get("done"); done {
	case "sending", "seen":
		p.Notice = notice{Text: q.words.Text("links." + done)}
	}
	return q.show("links", p)
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
