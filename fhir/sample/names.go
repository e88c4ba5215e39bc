package sample

import "strings"

// people is one region's names: given names by sex, family names, and invented villages.
type people struct {
	female, male, family, villages []string
}

func words(s string) []string { return strings.Fields(s) }

var regions = []people{
	{ // East
		words(`Akello Nakato Babirye Nansubuga Namukasa Achieng Atieno Wanjiru Wambui Njeri Nyambura Chebet Jepkosgei Jerotich Amina Zainabu
Rehema Neema Upendo Furaha Mwajuma Halima Fatuma Asha Saida Grace Mercy Joyce Esther Beatrice Immaculate Agnes Florence Winnie Scovia
Harriet Apio Adong Ayaa Kemigisha Tumusiime Natukunda Nakimuli`),
		words(`Okello Odongo Ocen Wasswa Kato Ssemakula Mukasa Musoke Otieno Ochieng Onyango Kamau Njoroge Mwangi Kiprono Kipchoge Kiptoo
Juma Hamisi Salim Rashid Bakari Baraka Emmanuel Joseph Peter Moses Isaac Simon Denis Robert Godfrey Brian Samuel Daniel Byaruhanga
Mugisha Tumwine Ogwang Opio Ojok`),
		words(`Okot Lakwo Nalwanga Kiggundu Lubega Sserwadda Kizza Omondi Owino Odhiambo Wekesa Barasa Simiyu Kariuki Maina Gitau Kimani Mutua
Musyoka Kilonzo Cheruiyot Rotich Koech Mwakyusa Mushi Massawe Kimaro Lyimo Mrema Swai Mollel Laizer Komba Ngowi Mbwana Shabani Mfinanga
Byarugaba Rwakatare Turyahikayo Asiimwe Ainebyona Opolot Okurut Emuron`),
		words(`Kisanyu Nabuleme Orwadai Kibuyeni Chemorit Lakorom Mwitabu Nyakasha Olengai Rukobe`),
	},
	{ // West
		words(`Adaeze Chidinma Ngozi Ifeoma Nneka Amarachi Folake Yetunde Bukola Temitope Abimbola Hauwa Zainab Aisha Maryam Hadiza Rahmatu
Ama Akosua Abena Adwoa Efua Esi Afua Aminata Fatoumata Mariama Kadiatou Awa Ndeye Khady Oumou Rokia Assetou Salimata Djeneba Ramatou
Binta Hawa Isatou`),
		words(`Chukwuemeka Obinna Ikenna Uchenna Chinedu Adewale Babatunde Olumide Segun Ayodele Ibrahim Abubakar Musa Sani Usman Yusuf Kwame
Kofi Kwabena Yaw Kwaku Kojo Mamadou Ousmane Cheikh Modou Alioune Ibrahima Amadou Seydou Boubacar Souleymane Moussa Issa Adama Lamine
Bakary Ebrima Sulayman`),
		words(`Okafor Nwosu Eze Onyekachi Obi Umeh Adeyemi Ogunleye Balogun Adebayo Oyelaran Bello Danjuma Garba Lawal Mensah Owusu Boateng
Asante Agyeman Osei Appiah Darko Ofori Diallo Bah Barry Sow Camara Toure Keita Traore Coulibaly Konate Sangare Diarra Ouedraogo Kabore
Sawadogo Ndiaye Diop Fall Faye Sarr Jallow Ceesay Sesay Koroma Kamara Conteh`),
		words(`Anyawota Bokutala Dagbenou Faranko Gidan-Koro Kpandira Mbelle Osuru Sarakoundi Wuroba`),
	},
	{ // South and centre
		words(`Thandiwe Nomvula Sibongile Zanele Lindiwe Nandi Lerato Palesa Dineo Refilwe Tendai Rudo Chipo Nyasha Tsitsi Ruvimbo Chisomo
Thoko Mphatso Kondwani Dalitso Mwila Chanda Mutale Bwalya Thokozile Busisiwe Nosipho Ayanda Kgomotso Tebogo Ines Celeste Graca Lurdes
Kapinga Mbuyi Ntumba Masika Furaha`),
		words(`Sipho Themba Bongani Mandla Sizwe Thabo Tshepo Kagiso Pule Tapiwa Farai Tinashe Tatenda Kudakwashe Simba Chikondi Limbani
Yamikani Mabvuto Chola Kunda Mulenga Musonda Kelvin Lazaro Domingos Armando Kabongo Ilunga Tshibangu Kasongo Mutombo Bahati Dieudonne
Jean-Bosco Emile`),
		words(`Dlamini Nkosi Ndlovu Mkhize Zulu Khumalo Sithole Mokoena Molefe Mahlangu Moyo Ncube Sibanda Chikwanha Mutasa Marufu Banda Phiri
Mwale Chirwa Nyirenda Gondwe Kaunda Tembo Zimba Mwansa Kapembwa Sichone Machava Macuacua Nhantumbo Cossa Mbala Ngoy Kalala Mulumba
Tshilombo Kavira Paluku Mumbere`),
		words(`Chitsindo Dzivakuru Kalonda Lusengwe Mabhukwane Mphereza Nkasawe Shangula Tsolweni Zumbati`),
	},
	{ // Horn and north-east
		words(`Tigist Meseret Almaz Hiwot Selam Genet Aster Bethlehem Mulu Tsehay Saba Rahel Lemlem Mihret Hodan Ifrah Ayaan Sahra Deqa Khadra
Nyandeng Achol Ayen Adut Nyibol Abuk`),
		words(`Abebe Bekele Tadesse Girma Tesfaye Dawit Yohannes Haile Mulugeta Kebede Solomon Getachew Mehari Abdi Farah Hassan Guled Liban
Warsame Deng Garang Majok Akol Bol Mading Chol`),
		words(`Alemu Wolde Gebre Desta Assefa Negash Mekonnen Tekle Berhane Kidane Araya Mohamud Abdullahi Jama Hersi Dualeh Egal Lual Mabior
Kuol Ajak Manyang Dut Atem Biar`),
		words(`Addi-Selmo Bilqayo Dhagaxley Gambelo Hareto Kobadir Malakwel Qoraxlow Shebelo Wag-Tamra`),
	},
}

var allergies = words(`Penicillin Amoxicillin Cotrimoxazole Aspirin Groundnuts Sulfadoxine Ibuprofen Eggs`)
