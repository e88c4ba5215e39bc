package link

// Cut makes the link forget every connection that goes through it, as a carrier's
// address translator does: both ends get a reset, and so does whoever sends on
// one of them later. New connections pass.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutLocked()
}

// CutAfter cuts once when so many more bytes have gone through, both ways
// together, and then calls then, which must not wait for the link.
func (l *Link) CutAfter(bytes int64, then func()) {
	up, down := l.Counts()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutAt, l.cut = up.Bytes+down.Bytes+bytes, then
}

func (l *Link) cutLocked() {
	for f, next := range l.flows {
		l.gone[f] = true
		l.towards(f).to.Write(reset(f, next)) // who misses it gets another for what it sends next
	}
	clear(l.flows)
}

// towards is the way on which packets of a flow travel.
func (l *Link) towards(f flow) *way {
	if f.to == [4]byte{10, 77, 0, 2} {
		return l.up
	}
	return l.down
}

// forgotten answers a segment of a forgotten connection, keeps count of living
// ones, and cuts when the time has come.
func (l *Link) forgotten(s segment, w *way) bool {
	up, down := l.Counts()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cutAt > 0 && up.Bytes+down.Bytes >= l.cutAt {
		l.cutAt = 0
		l.cutLocked()
		go l.cut()
	}
	if s.flags&tcpSYN != 0 && s.flags&tcpACK == 0 { // the ports are used anew
		delete(l.gone, s.flow)
		delete(l.gone, s.back())
	}
	switch {
	case l.gone[s.flow]:
		if s.flags&tcpRST == 0 && s.flags&tcpACK != 0 {
			w.from.Write(reset(s.back(), s.ack)) // the sender may be gone as well
		}
		return true
	case s.flags&tcpRST != 0:
		delete(l.flows, s.flow)
		delete(l.flows, s.back())
	case s.flags&tcpACK != 0:
		l.flows[s.back()] = s.ack
	}
	return false
}
