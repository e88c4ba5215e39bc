package web

// linksBody is the page of links: what waits, for whom, and what is wrong.
type linksBody struct {
	SyncPage
	FreePercent int // of the disk; -1 when unknown
	FreeWords   string
}

func showLinks(q *request) error {
	sync, err := q.clinic.SyncPage(q.r.Context(), q.session)
	if err != nil {
		return err
	}
	body := linksBody{SyncPage: sync, FreePercent: -1, FreeWords: sizeWords(sync.Disk.FreeBytes)}
	if sync.Disk.TotalBytes > 0 {
		body.FreePercent = int(100 * sync.Disk.FreeBytes / sync.Disk.TotalBytes)
	}
	p := q.newPage("links", "links.title", body)
	if q.r.URL.Query().Get("done") == "sending" {
		p.Notice = notice{Text: q.words.Text("links.sending")}
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
