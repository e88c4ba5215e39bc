package dict_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/fhir/sample"
	"github.com/healthpost/healthpost/seal/dict"
)

// clinic writes invented records as the page writes them.
type clinic struct {
	*rand.Rand
	ids *rand.ChaCha8
	*words
}

func newClinic(seed byte, w *words) *clinic {
	return &clinic{rand.New(rand.NewChaCha8([32]byte{seed, 1})), rand.NewChaCha8([32]byte{seed}), w}
}

// words is what people type.
type words struct{ given, family, villages, staff, treatments, notes, advices, allergies []string }

// training words go into the dictionary, held-out words never do: what is
// measured on them is what a clinic with its own names and phrases gets.
var training = &words{
	given:    []string{"Amina", "Joseph", "Grace", "Samuel", "Fatuma", "Peter", "Mary", "Yusuf", "Ruth", "Daniel", "Halima", "Moses", "Neema", "Baraka", "Zawadi", "Juma", "Esther", "Hassan", "Rehema", "Elias"},
	family:   []string{"Otieno", "Mwangi", "Abdi", "Njoroge", "Achieng", "Kamau", "Hussein", "Chebet", "Mutua", "Wanjiru", "Odhiambo", "Barasa", "Kiptoo", "Omar", "Nyambura", "Were"},
	villages: []string{"Kisima", "Mto wa Mbu", "Kambi ya Juu", "Lower Hill", "Bondeni", "Mlimani", "Old Market", "River Side", "Soko Mjinga", "Upper Farm"},
	staff:    []string{"Nurse Agnes Wafula", "Clinical officer J. Kilonzo", "Sister Beatrice", "Nurse Tom Ouma"},
	treatments: []string{
		"Artemether + lumefantrine 20/120 mg, 1 tablet twice a day for 3 days", "Artemether + lumefantrine 20/120 mg, 4 tablets twice a day for 3 days",
		"Amoxicillin 250 mg dispersible tablet, 2 tablets twice a day for 5 days", "Amoxicillin 500 mg, 1 capsule three times a day for 7 days",
		"ORS 1 sachet after each loose stool, zinc 20 mg once a day for 10 days", "Paracetamol 500 mg, 1 tablet every 6 hours when needed", "Paracetamol syrup 5 ml every 6 hours for 3 days",
		"Cotrimoxazole 480 mg twice a day for 5 days", "Albendazole 400 mg once", "Ferrous sulphate 200 mg + folic acid 0.4 mg once a day", "Amlodipine 5 mg once a day", "Metformin 500 mg twice a day with food",
		"Tetracycline eye ointment twice a day for 7 days", "Ready-to-use therapeutic food, 2 sachets a day", "Ciprofloxacin 500 mg twice a day for 3 days", "Clotrimazole cream 1% twice a day",
	},
	notes: []string{
		"Fever for 2 days, no vomiting, eats well.", "Cough for 5 days, no chest indrawing.", "Loose stools 4 times since yesterday, no blood, drinks eagerly.", "Mother says the child sleeps under a net.",
		"Wound on the left foot, clean, dressed.", "Skin pinch goes back at once.", "Second visit, better than last week.", "No known illness before.", "Blood pressure taken twice, sitting.", "Fundal height 28 weeks, fetal heart heard.",
		"Ear pain since 3 days, no discharge.", "Lives far, cannot come before market day.", "Sent home with the card.", "Weight has not changed for 2 months.",
	},
	advices: []string{
		"Drink more than usual, keep feeding, come back at once if not able to drink or if fever goes on.", "Finish all tablets even when better.", "Keep the wound dry and clean.", "Sleep under a net every night.",
		"Come back at once with fast breathing or blood in the stool.", "Less salt, walk every day.", "Bring the card next time.",
	},
	allergies: []string{"Penicillin", "Sulfa drugs", "Peanuts", "Aspirin"},
}

var heldOut = &words{
	given: []string{"Chipo", "Tendai", "Rudo", "Farai", "Lindiwe", "Thabo", "Nomsa", "Sipho", "Ayodele", "Ngozi"}, family: []string{"Moyo", "Ndlovu", "Dube", "Sibanda", "Okafor", "Banda", "Phiri", "Chanda"},
	villages: []string{"Gokwe", "Kabwe East", "Ward 7", "Chitungo", "Nyanga"}, staff: []string{"Sister Rumbidzai", "P. Mulenga, midwife"},
	treatments: []string{
		"Benzathine penicillin 2.4 MU i.m. once", "Doxycycline 100 mg 2x daily, 7 days", "ORS after every stool and zinc 10 mg daily", "Coartem 3 tabs 2x daily, 3 days", "Multivitamin syrup 5 ml daily", "Ibuprofen 400 mg up to 3x daily after food",
	},
	notes:   []string{"Hot since Monday, shivering at night.", "Burn on right hand from cooking pot, 3 cm.", "Baby not gaining, mother has little milk.", "Dry cough, worse at night, no blood.", "Came with grandmother; father works away."},
	advices: []string{"Return if the fever is still there after two days.", "Boil the drinking water.", "Breastfeed more often, day and night."}, allergies: []string{"Eggs", "Chloroquine"},
}

func (c *clinic) pick(from []string) string { return from[c.IntN(len(from))] }

// sometimes gives s in p of 100 cases.
func (c *clinic) sometimes(p int, s string) string {
	if c.IntN(100) < p {
		return s
	}
	return ""
}

func (c *clinic) registration() fhir.Registration {
	sexes := []string{"female", "male", "female", "male", "unknown"}
	born := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, -c.IntN(60*365))
	return fhir.Registration{
		Given: c.pick(c.given), Family: c.pick(c.family), Sex: c.pick(sexes),
		BirthDate: born.Format([]string{"2006-01-02", "2006-01-02", "2006-01", "2006"}[c.IntN(4)]), BirthEstimated: c.IntN(3) == 0,
		Village: c.sometimes(90, c.pick(c.villages)), Mother: c.sometimes(60, c.pick(c.given)+" "+c.pick(c.family)),
		Phone: c.sometimes(50, fmt.Sprintf("07%08d", c.IntN(1e8))), Card: c.sometimes(40, fmt.Sprintf("HP-%06d", c.IntN(1e6))),
	}
}

func (c *clinic) visit() fhir.Visit {
	problem := fhir.Problems[c.IntN(len(fhir.Problems))].Code
	v := fhir.Visit{
		At:          time.Date(2026, 1, 1, 7, 0, 0, 0, time.FixedZone("", 3*3600)).Add(time.Duration(c.IntN(300*24*60)) * time.Minute),
		Temperature: c.sometimes(90, fmt.Sprintf("%d.%d", 36+c.IntN(4), c.IntN(10))), Breaths: c.sometimes(60, fmt.Sprint(16+c.IntN(40))),
		Weight: c.sometimes(85, fmt.Sprintf("%d.%d", 5+c.IntN(60), c.IntN(10))), MUAC: c.sometimes(40, fmt.Sprint(110+c.IntN(60))),
		Height: c.sometimes(25, fmt.Sprint(60+c.IntN(110))), Pulse: c.sometimes(35, fmt.Sprint(60+c.IntN(80))), SpO2: c.sometimes(20, fmt.Sprint(92+c.IntN(8))),
		RDT: c.sometimes(40, []string{"positive", "negative", "negative", "invalid"}[c.IntN(4)]), Problem: problem,
		Treatment: c.sometimes(80, c.pick(c.treatments)), Note: c.sometimes(50, c.pick(c.notes)), Advice: c.sometimes(40, c.pick(c.advices)),
		ReturnIn: c.sometimes(50, fmt.Sprint(1+c.IntN(14))), Urgent: c.IntN(20) == 0, Allergy: c.sometimes(5, c.pick(c.allergies)),
	}
	if problem == "other" {
		v.ProblemOther = "Tooth ache"
	}
	if c.IntN(3) == 0 {
		v.Systolic, v.Diastolic = fmt.Sprint(100+c.IntN(60)), fmt.Sprint(60+c.IntN(30))
	}
	for _, sign := range fhir.DangerSigns {
		if c.IntN(25) == 0 {
			v.DangerSigns = append(v.DangerSigns, sign.Code)
		}
	}
	return v
}

// day gives the bodies of n visits; one visit in eight is the first of a new patient.
func (c *clinic) day(t testing.TB, n int) (registrations, visits [][]byte) {
	t.Helper()
	patient := ""
	for i := range n {
		if i%8 == 0 {
			r, err := c.registration().Resources(c.ids)
			if err != nil {
				t.Fatal(err)
			}
			patient = r[0].ID
			registrations = append(registrations, encode(t, r))
		}
		r, err := c.visit().Resources(c.ids, patient, c.pick(c.staff))
		if err != nil {
			t.Fatal(err)
		}
		visits = append(visits, encode(t, r))
	}
	return registrations, visits
}

func encode(t testing.TB, r []fhir.Resource) []byte {
	t.Helper()
	b, err := chart.EncodeBody(chart.Body{Items: chart.PutItems(r)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// corpusBodies is what v1 was trained on: the sample patients, and a clinic
// that fills in more of the form than they do.
func corpusBodies(t testing.TB) [][]byte {
	t.Helper()
	registrations, visits := sampleBodies(t, 1, 250)
	more, moreVisits := newClinic(1, training).day(t, 600)
	return slices.Concat(registrations, visits, more, moreVisits)
}

func sampleBodies(t testing.TB, seed uint64, patients int) (registrations, visits [][]byte) {
	t.Helper()
	for _, p := range sample.Patients(seed, patients) {
		saves, err := p.Resources()
		if err != nil {
			t.Fatal(err)
		}
		registrations = append(registrations, encode(t, saves[0]))
		for _, save := range saves[1:] {
			visits = append(visits, encode(t, save))
		}
	}
	return registrations, visits
}

// texts is what the compressor sees of bodies.
func texts(bodies [][]byte) [][]byte {
	out := make([][]byte, len(bodies))
	for i, b := range bodies {
		out[i], _ = dict.SetUUIDsAside(b)
	}
	return out
}
