"""Word lists of the built-in tagger; it takes every other word for a noun."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _tagged(**lists: str) -> dict[str, str]:
    return {word: tag for tag, words in lists.items() for word in words.split()}


CLOSED = _tagged(
    DET="""a an the this that these those each every some any both all another several many few
        various other his her its their my your our""",
    NUM="""one two three four five six seven eight nine ten eleven twelve dozen dozens hundreds
        thousands""",
    ADP="""in on at of with without by from to into onto through over under above below beneath
        underneath beside besides between among amongst around along across against behind near
        next inside outside outdoors indoors toward towards up down off out upon within during
        before after atop amid amidst like past via for about beyond opposite aboard throughout
        wearing including""",
    CCONJ="and or but nor",
    SCONJ="while as because if when where since though although whereas that's",
    PRON="it he she they them him himself herself itself themselves who which whose what there",
    AUX="is are was were be been being am has have had do does did can could will would may",
    ADV="""very too also just not so together alone away upside downstairs upstairs nearby apart
        ahead forward back-to-back here almost partially still quite asleep afloat awake""",
)
"""Universal part-of-speech tags, as spaCy gives them."""

PLURAL = _words(
    """these those both all several many few various two three four five six seven eight nine ten
    eleven twelve dozen dozens hundreds thousands"""
)
"""After these a verb has no -s, so a word with one is a noun: "two amusement rides"."""

ADJECTIVES = _words(
    """red orange yellow green blue purple pink brown black white grey gray golden silver beige tan
    maroon teal turquoise navy violet blonde blond brunette colorful colourful multicolored bright
    dark light pale big large small little tiny huge giant tall short long wide narrow thick thin
    high low deep old young new modern ancient antique vintage elderly middle-aged adult male
    female baby-faced beautiful pretty cute handsome ugly lovely nice happy sad angry funny silly
    fluffy furry hairy curly wavy fuzzy bald fat skinny slim heavy hot cold warm cool wet dry dirty
    clean shiny rusty dusty muddy sandy rocky grassy snowy icy rainy cloudy sunny foggy leafy busy
    empty full half open round square rectangular circular triangular oval flat curved straight
    wooden metallic plastic woolen ceramic stone-built royal public private local foreign american
    british chinese japanese indian italian asian african european fresh ripe raw sweet sour spicy
    juicy tasty delicious healthy lit unlit upper lower left right front-facing single double
    triple pregnant naked nude shirtless barefoot dead alive live wild domestic tropical exotic
    strange unusual different same similar matching identical plain simple fancy elegant
    professional electric electronic digital urban rural floral striped checkered plaid sleepy
    playful friendly soft hard smooth rough sharp steep shallow quiet crowded lone dim
    overweight bare long-haired short-haired long-sleeved"""
)

PARTICIPLES = _words(
    """made seen shown worn held taken hung set drawn built written broken torn cut left lit kept
    thrown blown driven ridden laid sat lain grown cooked eaten fallen hidden bent bound caught
    flown shot spread stuck sprawled split sewn spun woven wrapped"""
)
"""Irregular ones; -ed is a rule."""

ED_NOUNS = _words(
    """bed shed sled seed weed reed feed breed bread moped flatbed thoroughbred sunbed daybed
    bobsled tweed speed steed"""
)

ING_NOUNS = _words(
    """building painting ceiling clothing wedding string ring king wing swing spring thing
    something anything everything nothing evening morning lightning railing crossing drawing
    carving awning icing frosting stuffing topping dressing seasoning pudding earring stocking
    legging sibling duckling darling gosling lining siding flooring paneling covering offspring
    clearing landing opening parking setting meeting gathering sling king bling wiring bedding
    plumbing lighting shipping engraving lettering greeting filling dumpling sterling boxing
    boeing"""
)
"""Nouns to the rule tagger, unless an article follows: "a man painting a wall"."""

VERBS = _words(
    """sit stand hold wear eat ride walk run play look lie lay fly drive jump hang watch rest wait
    pose swim surf ski skate swing hit throw kick catch carry pull push lean sleep smile talk use
    show make take drink graze climb cross enjoy feature contain reach read work cook cut prepare
    serve dance sing travel move pass float sail perch share have see feed try get put go come
    face stare point display fill line surround cover gather compete chew bite sniff lick
    wade splash race gallop roam relax kneel crouch bend wave hug kiss pet type paddle row
    grow bloom shine rise overlook appear seem include reflect"""
)
"""Verbs in their base form, which captions use of plurals: "two men ride horses"."""

IRREGULAR_PLURALS = _words(
    """people men women children sheep cattle deer geese mice police fish fishermen firefighters
    policemen kids teeth feet oxen businessmen snowmen"""
)

LY_OTHERS = _words(
    """fly butterfly dragonfly firefly jelly belly family lily ply trolley reply assembly bully
    lovely friendly elderly curly ugly silly early only holly monopoly italy anomaly"""
)
"""Not adverbs."""

ING_COMPOUNDS = _words(
    """dining-room dining-table dining-area dining-hall dining-chair living-room
    living-area parking-lot parking-meter parking-garage parking-space parking-spot swimming-pool
    swimming-suit swimming-trunks washing-machine vending-machine frying-pan cutting-board
    chopping-board baking-sheet baking-pan baking-dish sewing-machine shopping-cart shopping-bag
    shopping-mall shopping-center walking-stick walking-path bowling-alley bowling-ball
    fishing-boat fishing-pole fishing-rod fishing-net sailing-boat sailing-ship racing-car
    hiking-trail hiking-boots running-shoes running-shoe waiting-room waiting-area dressing-table
    dressing-room sleeping-bag ironing-board rocking-chair rocking-horse cooking-pot cooking-pan
    wrapping-paper writing-desk reading-glasses skating-rink skating-park drinking-glass
    mixing-bowl serving-tray serving-dish steering-wheel landing-gear landing-strip
    training-camp boxing-ring boxing-gloves wedding-cake wedding-dress"""
)
"""Compound nouns whose first word looks like a verb."""

JOINED = frozenset({("pick", "up"), ("close", "up"), ("line", "up"), ("check", "in")})
"""Nouns written as two words whose second word looks like a preposition."""

OF_NOUNS = _words(
    """group groups crowd couple couples pair pairs bunch herd flock pack team row rows line stack
    pile piles piece pieces slice slices set series variety lot lots number collection assortment
    selection display array bouquet bundle cluster basket bowl bowls plate plates cup cups glass
    glasses bottle bottles mug jar box boxes bag bags can pot tray pan bucket loaf body part
    parts front back side top bottom edge end corner inside outside interior exterior half view
    photo photograph picture image portrait selfie shot painting drawing illustration cartoon
    sketch statue sculpture figurine figure model rendering kind type pack swarm school fleet
    stretch patch field bed bit sheet roll stick head bunches stacks dozen load host types kinds
    reflection shadow screenshot close-up"""
)
"""Nouns of quantity, part and depiction: the subject includes what follows their "of"."""
