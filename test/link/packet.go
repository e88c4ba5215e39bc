package link

import "encoding/binary"

// Count is what one direction carried.
type Count struct {
	Packets, Bytes    int64 // sent, headers included
	Payload           int64 // TCP payload sent for the first time
	Again             int64 // TCP payload sent again
	Empty, EmptyBytes int64 // packets without payload, and their bytes: acknowledgements, opening, closing
	Lost, LostBytes   int64 // of Packets and Bytes
	Overflow          int64 // packets that found the queue full; not in Packets
}

// Since gives what was added after before was taken.
func (c Count) Since(before Count) Count {
	return Count{c.Packets - before.Packets, c.Bytes - before.Bytes, c.Payload - before.Payload, c.Again - before.Again,
		c.Empty - before.Empty, c.EmptyBytes - before.EmptyBytes, c.Lost - before.Lost, c.LostBytes - before.LostBytes, c.Overflow - before.Overflow}
}

// Headers are the bytes of IP and TCP headers of packets with payload.
func (c Count) Headers() int64 { return c.Bytes - c.Payload - c.Again - c.EmptyBytes }

// flow is one TCP connection in one direction.
type flow struct {
	from, to         [4]byte
	fromPort, toPort uint16
}

func (f flow) back() flow { return flow{f.to, f.from, f.toPort, f.fromPort} }

// segment is what matters here of a TCP segment.
type segment struct {
	flow
	seq, ack uint32
	flags    byte
	payload  int
}

const (
	ipv4Header = 20
	tcpHeader  = 20
	tcpFIN     = 1
	tcpSYN     = 2
	tcpRST     = 4
	tcpACK     = 16
	protoTCP   = 6
)

// parse reads an IPv4 packet; ok is false for anything but a whole TCP segment.
func parse(p []byte) (s segment, ok bool) {
	if len(p) < ipv4Header || p[0]>>4 != 4 || p[9] != protoTCP {
		return s, false
	}
	head := int(p[0]&15) * 4
	if head < ipv4Header || len(p) < head+tcpHeader {
		return s, false
	}
	t := p[head:]
	data := int(t[12]>>4) * 4
	if data < tcpHeader || len(t) < data {
		return s, false
	}
	s.from, s.to = [4]byte(p[12:16]), [4]byte(p[16:20])
	s.fromPort, s.toPort = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
	s.seq, s.ack, s.flags, s.payload = binary.BigEndian.Uint32(t[4:]), binary.BigEndian.Uint32(t[8:]), t[13], len(t)-data
	return s, true
}

// reset is a packet that ends a connection as seen by the end at f.to, which
// expects seq next.
func reset(f flow, seq uint32) []byte {
	p := make([]byte, ipv4Header+tcpHeader)
	p[0], p[8], p[9] = 0x45, 64, protoTCP
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], f.from[:])
	copy(p[16:], f.to[:])
	binary.BigEndian.PutUint16(p[10:], ^sum(0, p[:ipv4Header]))
	t := p[ipv4Header:]
	binary.BigEndian.PutUint16(t, f.fromPort)
	binary.BigEndian.PutUint16(t[2:], f.toPort)
	binary.BigEndian.PutUint32(t[4:], seq)
	t[12], t[13] = tcpHeader/4<<4, tcpRST
	pseudo := sum(protoTCP+tcpHeader, p[12:20])
	binary.BigEndian.PutUint16(t[16:], ^sum(uint32(pseudo), t))
	return p
}

// sum is the Internet checksum of an even number of bytes, not yet complemented
// (RFC 1071).
func sum(n uint32, p []byte) uint16 {
	for ; len(p) > 1; p = p[2:] {
		n += uint32(binary.BigEndian.Uint16(p))
	}
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return uint16(n)
}
