package fhir

import (
	"bytes"
	"math/bits"
	"slices"
)

// Topics are sensitive topics of care, which are kept apart from the rest of a chart.
type Topics uint8

const (
	TopicHIV    Topics = 1 << iota // HIV
	TopicSexual                    // sexual and reproductive health
	TopicMental                    // mental health and substance use

	AllTopics = TopicHIV | TopicSexual | TopicMental
)

// The systems of security labels.
const (
	systemConfidentiality = systemTerms + "v3-Confidentiality"

	codeRestricted     = "R"
	codeVeryRestricted = "V"
)

// topicTerms are the topics, by their bit: the word that forms, rules and decisions know, and the label.
var topicTerms = [...]struct{ word, code, display string }{
	{"hiv", "HIV", "HIV/AIDS information sensitivity"},
	{"sexual", "SEX", "sexuality and reproductive health information sensitivity"},
	{"mental", "BH", "behavioral health information sensitivity"},
}

// labelTopics are the codes of v3-ActCode that mean one of the topics.
var labelTopics = map[string]Topics{
	"HIV": TopicHIV,
	"SEX": TopicSexual, "STD": TopicSexual, "SDV": TopicSexual, "MST": TopicSexual, "PREGNANT": TopicSexual,
	"BH": TopicMental, "MH": TopicMental, "PSY": TopicMental, "PSYTHPN": TopicMental, "EMOTDIS": TopicMental, "COGN": TopicMental,
	"DVD": TopicMental, "ETH": TopicMental, "SUD": TopicMental, "ETHUD": TopicMental, "OPIOIDUD": TopicMental,
}

// TopicWords are the words of all topics.
func TopicWords() []string { return AllTopics.Words() }

// Words are those of the topics, in their order.
func (t Topics) Words() (out []string) {
	for i := range topicTerms {
		if t&(1<<i) != 0 {
			out = append(out, topicTerms[i].word)
		}
	}
	return out
}

// Each are the topics one by one.
func (t Topics) Each() (out []Topics) {
	for t &= AllTopics; t != 0; t &= t - 1 {
		out = append(out, 1<<bits.TrailingZeros8(uint8(t)))
	}
	return out
}

// TopicsOfWords are the topics with these words; ok is false when one of them is none.
func TopicsOfWords(words []string) (t Topics, ok bool) {
	ok = true
	for _, w := range words {
		i := slices.IndexFunc(topicTerms[:], func(x struct{ word, code, display string }) bool { return x.word == w })
		if i < 0 {
			ok = false
			continue
		}
		t |= 1 << i
	}
	return t, ok
}

// codings are the labels of topics.
func (t Topics) codings() (out list) {
	for i, x := range topicTerms {
		if t&(1<<i) != 0 {
			out = append(out, coding(systemActCode, x.code, x.display))
		}
	}
	return out
}

// meta marks a resource as of the topics, and as restricted for whoever knows no topics.
func (t Topics) meta() object {
	return object{{"security", append(list{coding(systemConfidentiality, codeRestricted, "restricted")}, t.codings()...)}}
}

// Topics are the sensitive topics that the resource's security labels say it is of. One that is restricted
// without a topic is of all of them.
func (r Resource) Topics() Topics {
	if !bytes.Contains(r.JSON, []byte("security")) && !bytes.ContainsRune(r.JSON, '\\') { // or a name in escapes
		return 0
	}
	t, restricted := topicsOf(r.tree().get("meta").get("security"))
	if t == 0 && restricted {
		return AllTopics
	}
	return t
}

func topicsOf(labels value) (t Topics, restricted bool) {
	for _, k := range labels.list() {
		switch code := k.get("code").text; k.get("system").text {
		case systemActCode:
			t |= labelTopics[code]
		case systemConfidentiality:
			restricted = restricted || code == codeRestricted || code == codeVeryRestricted
		}
	}
	return t, restricted
}
