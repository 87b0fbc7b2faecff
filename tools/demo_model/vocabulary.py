"""The demo model's whole world: what can be in a picture and how it is called."""

# Emoji of Noto Color Emoji that stay apart at 20 pixels, with one or two everyday words for each.
EMOJI = {
    "dog": "🐶", "cat": "🐱", "frog": "🐸", "pig": "🐷", "lion": "🦁", "panda": "🐼", "monkey": "🐵", "chicken": "🐔",
    "penguin": "🐧", "owl": "🦉", "fish": "🐟", "whale": "🐳", "octopus": "🐙", "crab": "🦀", "turtle": "🐢", "snail": "🐌",
    "bee": "🐝", "butterfly": "🦋", "ladybird": "🐞", "elephant": "🐘", "giraffe": "🦒", "snake": "🐍", "apple": "🍎",
    "banana": "🍌", "grapes": "🍇", "strawberry": "🍓", "lemon": "🍋", "watermelon": "🍉", "pineapple": "🍍",
    "carrot": "🥕", "corn": "🌽", "mushroom": "🍄", "pizza": "🍕", "burger": "🍔", "egg": "🍳", "cake": "🎂",
    "cookie": "🍪", "ice cream": "🍦", "doughnut": "🍩", "teapot": "🫖", "car": "🚗", "bus": "🚌", "tractor": "🚜",
    "bicycle": "🚲", "boat": "⛵", "rocket": "🚀", "helicopter": "🚁", "train": "🚂", "fire engine": "🚒", "house": "🏠",
    "tent": "⛺", "tree": "🌳", "palm tree": "🌴", "cactus": "🌵", "sunflower": "🌻", "rose": "🌹", "tulip": "🌷",
    "rainbow": "🌈", "umbrella": "☔", "snowman": "⛄", "balloon": "🎈", "gift": "🎁", "football": "⚽", "basketball": "🏀",
    "guitar": "🎸", "drum": "🥁", "trumpet": "🎺", "camera": "📷", "phone": "📱", "clock": "⏰", "key": "🔑", "lock": "🔒",
    "hammer": "🔨", "scissors": "✂", "book": "📕", "pencil": "✏", "bell": "🔔", "crown": "👑", "hat": "🎩", "shoe": "👟",
    "shirt": "👕", "glasses": "👓", "robot": "🤖", "ghost": "👻", "light bulb": "💡", "globe": "🌍", "magnet": "🧲",
    "candle": "🕯", "chair": "🪑", "anchor": "⚓",
}
SHAPES = ["circle", "square", "triangle", "star", "heart", "diamond"]
# Colour names with their middle in RGB; drawing moves each channel a little.
COLOURS = {
    "red": (220, 30, 35), "orange": (250, 135, 20), "yellow": (245, 220, 25), "green": (35, 160, 60), "blue": (35, 85, 220),
    "purple": (135, 40, 170), "pink": (255, 115, 185), "black": (18, 18, 22),
}
GLYPHS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
DRAWN_GLYPHS = GLYPHS.replace("0", "").replace("1", "")  # small O and 0, I and 1 look the same
WORDS = """STOP EXIT OPEN SALE TAXI CAFE HOTEL BANK PARK SHOP FIRE WATER BREAD MILK TEA FREE HELLO PIZZA SUN MOON STAR BOOK
MUSIC POST ZOO BUS TRAIN NORTH SOUTH EAST WEST LOVE HOME GAME PLAY CODE DATA FOOD FISH LAKE ROAD SLOW FAST WORD KEY BOX
MAX JAZZ QUIZ VIP GYM ICE RED BLUE GREEN ONE TWO SIX NINE UP DOWN LEFT RIGHT YES NO ON OFF IN OUT""".split()

NUMBERS = ["No", "One", "Two", "Three", "Four", "Five"]
# Cells of the 3x3 grid in reading order, as the answers name them.
POSITIONS = ["top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right"]

PLURALS = {
    "fish": "fish", "butterfly": "butterflies", "ladybird": "ladybirds", "strawberry": "strawberries", "bus": "buses",
    "snowman": "snowmen", "mushroom": "mushrooms", "octopus": "octopuses", "grapes": "bunches of grapes",
    "scissors": "pairs of scissors", "glasses": "pairs of glasses", "corn": "ears of corn",
}
SINGULARS = {"grapes": "a bunch of grapes", "scissors": "a pair of scissors", "glasses": "a pair of glasses", "corn": "an ear of corn"}
THE = {"grapes": "bunch of grapes", "scissors": "pair of scissors", "glasses": "pair of glasses", "corn": "ear of corn"}

EMOJI_NAMES = list(EMOJI)
COLOUR_NAMES = list(COLOURS)
# Classes that a patch can show: nothing, an emoji, a shape, a glyph.
CLASS_NAMES = ["nothing"] + EMOJI_NAMES + SHAPES + list(GLYPHS)
FIRST_SHAPE = 1 + len(EMOJI_NAMES)
FIRST_GLYPH = FIRST_SHAPE + len(SHAPES)


def article(noun: str) -> str:
    """`noun` with its indefinite article."""
    if noun in SINGULARS:
        return SINGULARS[noun]
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def plural(noun: str) -> str:
    return PLURALS.get(noun, noun + "s")


def definite(noun: str) -> str:
    return THE.get(noun, noun)
