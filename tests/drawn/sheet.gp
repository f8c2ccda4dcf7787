reset
set encoding utf8
if (!exists("suffix")) suffix = ''
if (!exists("formats")) formats = 'svg png pdf'
do for [format in formats] {
if (format eq 'svg') { set terminal svg size 341,275 font 'sans-serif,8' fontscale 1.33333 linewidth 1.33333 background '#ffffff'; symbol = 1.5 }
if (format eq 'png') { set terminal pngcairo size 711,572 font 'sans-serif,8' fontscale 2.08333 linewidth 2.77778 pointscale 2.77778; symbol = 1 }
if (format eq 'pdf') { set terminal pdfcairo size 3.5556in,2.8611in font 'sans-serif,8' fontscale 0.75 linewidth 2; symbol = 1 }
set output 'sheet'.'.'.format.suffix
set multiplot
set border 15 linewidth 0.5
set tics out nomirror scale 0.5 font ',6.5'
unset key
set xtics offset 0,0.4
set ytics offset 0.6,0
unset xtics
unset ytics
set palette maxcolors 256 defined (0 '#25509a',1 '#25509a',2 '#26519b',3 '#28539d',4 '#29549f',5 '#2a55a0',6 '#2c56a2',7 '#2d57a3',8 '#2e58a5',9 '#3059a6',10 '#315ba8',11 '#325ca9',12 '#345dab',13 '#355eac',14 '#375fae',15 '#3860af',16 '#3a62b1',17 '#3b63b2',18 '#3c64b4',19 '#3e65b5',20 '#3f66b7',21 '#4167b8',22 '#4269b9',23 '#446abb',24 '#456bbc',25 '#476cbd',26 '#486dbf',27 '#4a6fc0',28 '#4b70c1',29 '#4d71c3',30 '#4f72c4',31 '#5073c5',32 '#5275c6',33 '#5376c8',34 '#5577c9',35 '#5678ca',36 '#587acb',37 '#5a7bcd',38 '#5b7cce',39 '#5d7dcf',40 '#5e7fd0',41 '#6080d1',42 '#6281d2',43 '#6382d3',44 '#6584d4',45 '#6785d5',46 '#6886d6',47 '#6a87d8',48 '#6c89d9',49 '#6d8ada',50 '#6f8bdb',51 '#708cdc',52 '#728edd',53 '#748fdd',54 '#7690de',55 '#7791df',56 '#7993e0',57 '#7b94e1',58 '#7c95e2',59 '#7e97e3',60 '#8098e4',61 '#8199e5',62 '#839ae5',63 '#859ce6',64 '#879de7',65 '#889ee8',66 '#8aa0e8',67 '#8ca1e9',68 '#8da2ea',69 '#8fa4eb',70 '#91a5eb',71 '#93a6ec',72 '#94a8ed',73 '#96a9ed',74 '#98aaee',75 '#9aacee',76 '#9badef',77 '#9daef0',78 '#9fb0f0',79 '#a1b1f1',80 '#a2b2f1',81 '#a4b4f2',82 '#a6b5f2',83 '#a8b6f3',84 '#a9b8f3',85 '#abb9f4',86 '#adbaf4',87 '#afbcf4',88 '#b0bdf5',89 '#b2bff5',90 '#b4c0f6',91 '#b6c1f6',92 '#b7c3f6',93 '#b9c4f7',94 '#bbc5f7',95 '#bdc7f7',96 '#bec8f7',97 '#c0caf8',98 '#c2cbf8',99 '#c4ccf8',100 '#c5cef8',101 '#c7cff8',102 '#c9d1f9',103 '#cbd2f9',104 '#ccd3f9',105 '#ced5f9',106 '#d0d6f9',107 '#d2d8f9',108 '#d3d9f9',109 '#d5dbf9',110 '#d7dcf9',111 '#d9ddf9',112 '#dadff9',113 '#dce0f9',114 '#dee2f9',115 '#e0e3f9',116 '#e1e5f9',117 '#e3e6f9',118 '#e5e8f9',119 '#e7e9f9',120 '#e8ebf8',121 '#eaecf8',122 '#ecedf8',123 '#eeeff8',124 '#eff0f7',125 '#f1f2f7',126 '#f3f3f7',127 '#f5f5f7',128 '#f6f6f6',129 '#f7f4f4',130 '#f8f2f2',131 '#f8f1f0',132 '#f9efed',133 '#f9edeb',134 '#faebe9',135 '#fae9e7',136 '#fae7e5',137 '#fbe5e2',138 '#fbe3e0',139 '#fbe1de',140 '#fcdfdc',141 '#fcdeda',142 '#fcdcd8',143 '#fcdad6',144 '#fcd8d4',145 '#fcd6d1',146 '#fcd4cf',147 '#fcd2cd',148 '#fcd1cb',149 '#fccfc9',150 '#fccdc7',151 '#fccbc5',152 '#fcc9c3',153 '#fcc7c1',154 '#fcc6bf',155 '#fcc4bd',156 '#fbc2bb',157 '#fbc0b9',158 '#fbbfb8',159 '#fabdb6',160 '#fabbb4',161 '#fab9b2',162 '#f9b7b0',163 '#f9b6ae',164 '#f9b4ac',165 '#f8b2aa',166 '#f8b0a9',167 '#f7afa7',168 '#f7ada5',169 '#f6aba3',170 '#f6aaa1',171 '#f5a8a0',172 '#f5a69e',173 '#f4a49c',174 '#f3a39a',175 '#f3a199',176 '#f29f97',177 '#f19e95',178 '#f19c93',179 '#f09a92',180 '#ef9990',181 '#ee978e',182 '#ee958d',183 '#ed948b',184 '#ec9289',185 '#eb9188',186 '#ea8f86',187 '#ea8d85',188 '#e98c83',189 '#e88a81',190 '#e78980',191 '#e6877e',192 '#e5857d',193 '#e4847b',194 '#e3827a',195 '#e28178',196 '#e17f77',197 '#e07e75',198 '#df7c74',199 '#de7b72',200 '#dd7971',201 '#dc776f',202 '#db766e',203 '#da746c',204 '#d9736b',205 '#d7726a',206 '#d67068',207 '#d56f67',208 '#d46d65',209 '#d36c64',210 '#d26a63',211 '#d06961',212 '#cf6760',213 '#ce665f',214 '#cd645d',215 '#cb635c',216 '#ca625b',217 '#c9605a',218 '#c85f58',219 '#c65e57',220 '#c55c56',221 '#c45b54',222 '#c25953',223 '#c15852',224 '#c05751',225 '#be5550',226 '#bd544e',227 '#bb534d',228 '#ba524c',229 '#b9504b',230 '#b74f4a',231 '#b64e49',232 '#b44c47',233 '#b34b46',234 '#b14a45',235 '#b04944',236 '#af4743',237 '#ad4642',238 '#ac4541',239 '#aa4440',240 '#a8433f',241 '#a7413e',242 '#a5403d',243 '#a43f3c',244 '#a23e3b',245 '#a13d3a',246 '#9f3c39',247 '#9e3b38',248 '#9c3a37',249 '#9a3836',250 '#993735',251 '#973634',252 '#963533',253 '#943432',254 '#923331',255 '#913230')
set cbrange [-0.1:0.1]
unset colorbox
atleast(x) = x < -0.1 ? -0.1 : x
shown(x) = atleast(log(abs(x) * 4 + 1e-300) / log(2))
set lmargin at screen 0.03906
set rmargin at screen 0.33594
set tmargin at screen 0.93204
set bmargin at screen 0.56311
set colorbox user origin screen 0.74219,0.19417 size screen 0.03125,0.73786
set cbtics out font ',6.5' format '%.3g'
set cblabel 'log2(|A_ij| M); up to 2, clipped' noenhanced font ',7' offset 0.3,0
set title 'one' noenhanced font ',7' offset 0,-0.7
shown(x) = atleast(log(abs(x) * 4 + 1e-300) / log(2))
set xrange [-0.5:3.5]
set yrange [3.5:-0.5]
plot 'a.npy' binary skip=128 format='%double' array=(4,4) using (shown($1)) with image
unset object
unset arrow
unset title
unset colorbox
set lmargin at screen 0.36719
set rmargin at screen 0.66406
set tmargin at screen 0.93204
set bmargin at screen 0.56311
set title 'two' noenhanced font ',7' offset 0,-0.7
shown(x) = atleast(log(abs(x) * 9 + 1e-300) / log(2))
set xrange [-0.5:3.5]
set yrange [0.5:-0.5]
plot 'b.npy' binary skip=192 format='%double' record=(4) using ($0):(0):(0.5):(0.5):(shown($1)) with boxxyerror fillstyle solid noborder linecolor palette
unset object
unset arrow
unset title
unset colorbox
set lmargin at screen 0.03906
set rmargin at screen 0.33594
set tmargin at screen 0.45631
set bmargin at screen 0.08738
set title 'three' noenhanced font ',7' offset 0,-0.7
shown(x) = atleast(log(abs(x) * 1 + 1e-300) / log(2))
set xrange [-0.5:0.5]
set yrange [3.5:-0.5]
plot 'c.npy' binary skip=128 format='%double' record=(4) using (0):($0):(0.5):(0.5):(shown($1)) with boxxyerror fillstyle solid noborder linecolor palette
unset object
unset arrow
unset title
unset colorbox
unset multiplot
unset output
}
